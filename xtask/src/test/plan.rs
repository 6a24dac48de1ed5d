//! The checks, their order and their commands.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{deny, qdrant_server};

/// The feature that live tests require in the manifest of their crate.
const LIVE: &str = "live";

/// One check.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) job: Job,
}

/// The work of a step.
pub(super) enum Job {
    /// A command in a directory of the workspace.
    Run { program: Program, arguments: Vec<String>, directory: &'static str, needs_servers: bool },
    /// Installs cargo-deny if it is missing.
    InstallDeny,
    /// Starts the servers that do not run yet.
    StartServers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Cargo,
    Deny,
}

impl Program {
    pub(super) fn path(self, root: &Path) -> PathBuf {
        match self {
            Self::Cargo => "cargo".into(),
            Self::Deny => deny::program(root),
        }
    }
}

impl Step {
    fn cargo(name: &'static str, line: &str) -> Self {
        Self::run(name, Program::Cargo, line, ".")
    }

    fn run(name: &'static str, program: Program, line: &str, directory: &'static str) -> Self {
        let arguments = line.split(' ').map(str::to_owned).collect();
        Self { name, job: Job::Run { program, arguments, directory, needs_servers: false } }
    }

    /// The heading above the step's output.
    pub(super) fn title(&self) -> String {
        let Job::Run { program, arguments, directory, .. } = &self.job else { return self.name.to_owned() };
        let command =
            format!("{} {}", if *program == Program::Cargo { "cargo" } else { "cargo-deny" }, arguments.join(" "));
        if *directory == "." { command } else { format!("{command}  (in {directory})") }
    }
}

/// The steps in order.
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
}

impl Plan {
    /// All checks.
    pub(super) fn all(root: &Path) -> Result<Self> {
        // With the benchmark of the decoder, which only that feature opens.
        let features = format!("{},chunk-sync-connectors/fuzz", Live::of(root)?.features());
        let lints = format!("clippy --workspace --all-targets --features {features} -- -D warnings");
        let mut steps = vec![
            Step::cargo("format", "fmt --all --check"),
            Step::run("format, test server", Program::Cargo, "fmt --check", qdrant_server::DIRECTORY),
            Step { name: "cargo-deny", job: Job::InstallDeny },
            Step::run("licences", Program::Deny, deny::CHECKS, "."),
            Step::run("licences, test server", Program::Deny, deny::CHECKS, qdrant_server::DIRECTORY),
            Step::cargo("lints", &lints),
            Step::run(
                "lints, test server",
                Program::Cargo,
                "clippy --all-targets -- -D warnings",
                qdrant_server::DIRECTORY,
            ),
            // The plain command of a new contributor, without any server.
            Step::cargo("tests", "test --no-fail-fast"),
            Step::run("tests, test server", Program::Cargo, "test", qdrant_server::DIRECTORY),
        ];
        steps.extend(Self::live(root, &[])?.steps);
        Ok(Self { steps })
    }

    /// The live tests only; `extra` goes to `cargo test`.
    pub(super) fn live(root: &Path, extra: &[&str]) -> Result<Self> {
        let live = Live::of(root)?;
        let mut arguments: Vec<String> =
            ["test", "--workspace", "--no-fail-fast", "--features"].map(str::to_owned).into();
        arguments.push(live.features());
        if !extra.contains(&"--test") {
            arguments.extend(live.targets.iter().flat_map(|target| ["--test".to_owned(), target.name.clone()]));
        }
        arguments.extend(extra.iter().map(|word| (*word).to_owned()));
        let tests = Job::Run { program: Program::Cargo, arguments, directory: ".", needs_servers: true };
        Ok(Self {
            steps: vec![
                Step::run("test server", Program::Cargo, qdrant_server::BUILD, qdrant_server::DIRECTORY),
                Step { name: "services up", job: Job::StartServers },
                Step { name: "live tests", job: tests },
            ],
        })
    }
}

/// The live tests of the workspace, read from the manifests: a list in the code would silently omit new ones.
struct Live {
    targets: Vec<Target>,
}

#[derive(Debug, PartialEq, Eq)]
struct Target {
    package: String,
    name: String,
}

impl Live {
    fn of(root: &Path) -> Result<Self> {
        let crates = root.join("crates");
        let mut targets = Vec::new();
        let entries = std::fs::read_dir(&crates).with_context(|| format!("cannot read {}", crates.display()))?;
        for entry in entries {
            let manifest = entry?.path().join("Cargo.toml");
            let text =
                std::fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
            targets.extend(live_tests(&text));
        }
        ensure!(!targets.is_empty(), "no manifest below crates/ has a test with `required-features = [\"{LIVE}\"]`");
        targets.sort_by(|one, other| (&one.package, &one.name).cmp(&(&other.package, &other.name)));
        Ok(Self { targets })
    }

    /// The features that enable the live tests: `crate/live,…`.
    fn features(&self) -> String {
        let mut features: Vec<String> =
            self.targets.iter().map(|target| format!("{}/{LIVE}", target.package)).collect();
        features.dedup();
        features.join(",")
    }
}

/// The live tests that a manifest declares.
fn live_tests(manifest: &str) -> Vec<Target> {
    let name = |section: &str| {
        let line = section.lines().find_map(|line| line.strip_prefix("name = "));
        line.map(|quoted| quoted.trim().trim_matches('"').to_owned())
    };
    let mut sections = manifest.split("\n[");
    let package = sections.next().and_then(name).unwrap_or_default();
    let tests = sections.filter(|section| section.starts_with("[test]]"));
    let live = tests.filter(|section| section.lines().any(|line| line == format!("required-features = [\"{LIVE}\"]")));
    live.filter_map(name).map(|name| Target { package: package.clone(), name }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::workspace_root;

    #[test]
    fn tests_that_require_the_feature_are_live() {
        let manifest = "[package]\nname = \"one\"\n\n[[test]]\nname = \"a\"\nrequired-features = [\"live\"]\n\n\
            [[test]]\nname = \"b\"\n\n[[example]]\nname = \"c\"\nrequired-features = [\"live\"]\n";
        assert_eq!(live_tests(manifest), [Target { package: "one".into(), name: "a".into() }]);
    }

    #[test]
    fn every_vendor_has_live_tests() {
        let live = Live::of(&workspace_root().unwrap()).unwrap();
        for name in ["neo4j", "postgres", "qdrant", "redis", "servers"] {
            assert!(live.targets.iter().any(|target| target.name == name), "{name} is not among {:?}", live.targets);
        }
        assert_eq!(live.features(), "chunk-sync/live,chunk-sync-connectors/live");
    }

    #[test]
    fn arguments_reach_the_live_tests_and_may_select_some() {
        let plan = Plan::live(&workspace_root().unwrap(), &["--test", "redis", "--", "--nocapture"]).unwrap();
        let Job::Run { arguments, .. } = &plan.steps.last().unwrap().job else { unreachable!() };
        assert_eq!(arguments.iter().filter(|word| *word == "--test").count(), 1);
        assert!(arguments.ends_with(&["redis", "--", "--nocapture"].map(str::to_owned)), "{arguments:?}");
    }

    #[test]
    fn only_the_live_tests_get_servers() {
        let plan = Plan::all(&workspace_root().unwrap()).unwrap();
        let needy = plan.steps.iter().filter(|step| matches!(step.job, Job::Run { needs_servers: true, .. }));
        assert_eq!(needy.map(|step| step.name).collect::<Vec<_>>(), ["live tests"]);
    }
}
