"use strict";

const { spawnSync } = require("node:child_process");
const { delimiter, join } = require("node:path");

const LOCAL = /^(offline|wsgi|invoke local)/;

// What this project changes in the work of the other plugins. Listed after them: they are made by then, and their hooks
// have run when ours do.
class Klamala {
  constructor(serverless, options) {
    this.serverless = serverless;
    this.options = options;
    // The checkout's own Python has pip and the service's packages.
    const own = join(serverless.config.servicePath, ".venv", "bin");
    process.env.PATH = [own, process.env.PATH].join(delimiter);
    keepHandler(serverless);
    this.hooks = {
      initialize: () => this.forgetAws(),
      "after:package:createDeploymentArtifacts": () => this.finish(),
      "after:deploy:function:packageFunction": () => this.finish(),
    };
  }

  // What runs on this machine has its settings from this machine: AWS's secret and queues are not at hand.
  forgetAws() {
    const { processedInput, service } = this.serverless;
    if (LOCAL.test(processedInput.commands.join(" "))) {
      ["SECRETS_ID", "JOBS_QUEUE_URL", "OUTBOX_QUEUE_URL"].forEach((name) => delete service.provider.environment[name]);
    }
  }

  // Where serverless-python-requirements has put the packages by now.
  finish() {
    const { classes, config, service } = this.serverless;
    const artifact = service.package.artifact ?? this.options.functionObj.package.artifact;
    const run = (...words) => spawnSync("python3", ["-m", ...words], { cwd: config.servicePath, stdio: "inherit" }).status;
    const installed = join(config.servicePath, ".serverless", "installed.json");
    if (run("scripts.artifact", artifact, service.custom.python) || run("scripts.sbom", artifact, installed)) {
      throw new classes.Error("The artifact could not be finished.");
    }
  }
}

// serverless-wsgi writes a wsgi_handler.py of its own over ours, and deletes it afterwards.
function keepHandler(serverless) {
  const wsgi = serverless.pluginManager.plugins.find((plugin) => plugin.constructor.name === "ServerlessWSGI");
  for (const step of ["packWsgiHandler", "cleanup"]) {
    if (typeof wsgi?.[step] !== "function") {
      throw new serverless.classes.Error(`serverless-wsgi has no ${step} any more: what happens to wsgi_handler.py?`);
    }
    wsgi[step] = async () => {};
  }
}

module.exports = Klamala;
