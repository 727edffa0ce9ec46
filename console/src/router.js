/**
 * Which view the address names: the part of it after `#/`. Back and forward work, and the service never sees it.
 *
 * @template {{ route: string }} T
 * @param {T[]} views The first one is shown where the address names none.
 * @param {(view: T) => void} show
 */
export function route(views, show) {
  const follow = () => {
    const wanted = location.hash.replace(/^#\/?/, "");
    show(views.find((view) => view.route === wanted) ?? views[0]);
  };
  window.addEventListener("hashchange", follow);
  follow();
}
