/**
 * Which view the address names, and what of it: `#/refine/<id>`. Back and forward work, and the service never sees it.
 *
 * @template {{ route: string }} T
 * @param {T[]} views The first one is shown where the address names none.
 * @param {(view: T, what: string) => void} show
 * @returns {() => void} shows again what the address names
 */
export function route(views, show) {
  const follow = () => {
    const [wanted, ...what] = location.hash.replace(/^#\/?/, "").split("/");
    show(views.find((view) => view.route === wanted) ?? views[0], what.join("/"));
  };
  window.addEventListener("hashchange", follow);
  follow();
  return follow;
}
