//! The process of a function in `examples/readers`: its program and its results. Knows nothing of tokens.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::{
    peer,
    support::runtime_api::{Deadline, Function, Outcome, RuntimeApi},
};

/// The functions of `examples/readers`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Example {
    PythonBoto3,
    PythonExtension,
    NodeSdk,
    NodeExtension,
    Rust,
}

impl Example {
    pub fn uses_the_extension(self) -> bool {
        matches!(self, Self::PythonExtension | Self::NodeExtension)
    }

    fn command(self) -> Command {
        match self {
            Self::PythonBoto3 => python("python_boto3.py"),
            Self::PythonExtension => python("python_extension.py"),
            Self::NodeSdk => node("node_sdk.mjs"),
            Self::NodeExtension => node("node_extension.mjs"),
            Self::Rust => rust("rust_reader"),
        }
    }
}

impl Example {
    /// Parses these points in time with the example's own function. Returns milliseconds since the epoch.
    pub fn points_in_time(self, written: &[Value]) -> Vec<u64> {
        self.evaluate(
            "[round(m.seconds_since_epoch(point) * 1000) for point in given]",
            "given.map((point) => Math.floor(m.millisecondsSinceEpoch(point)))",
            written,
        )
    }

    /// Reads these documents with the example's own functions. Returns the access tokens, and their ends in milliseconds since the
    /// epoch.
    pub fn ends_of(self, documents: &[Value]) -> Vec<(Option<String>, Option<u64>)> {
        self.evaluate(
            "[(t.get('accessToken'), end and round(end * 1000)) for t in map(m.tokens_in, given) for end in [m.expiry_of(t)]]",
            // In JSON, `undefined` in a list and NaN are null.
            "given.map((secret) => m.tokensIn(secret)).map((t) => [t.accessToken, Math.floor(m.expiryOf(t))])",
            documents,
        )
    }

    /// Evaluates the expression in the example's language. In it, `m` is the example, and `given` the list.
    fn evaluate<T: DeserializeOwned>(self, in_python: &str, in_javascript: &str, given: &[Value]) -> T {
        let mut command = match self {
            Self::PythonBoto3 | Self::PythonExtension => {
                let module = if self == Self::PythonBoto3 { "python_boto3" } else { "python_extension" };
                let mut command = Command::new(peer("PEER_PYTHON"));
                let given = "given = json.loads(sys.argv[1])";
                command.arg("-Bc");
                command.arg(format!("import json, sys, {module} as m; {given}; print(json.dumps({in_python}))"));
                command.current_dir(repository("examples/readers"));
                command
            }
            Self::NodeSdk | Self::NodeExtension => {
                let module = if self == Self::NodeSdk { "node_sdk" } else { "node_extension" };
                let mut command = Command::new(peer("PEER_NODE"));
                let given = "const given = JSON.parse(process.argv[1])";
                let print = format!("console.log(JSON.stringify({in_javascript}))");
                command.args(["--input-type=module", "--eval"]);
                command.arg(format!("import * as m from './{module}.mjs'; {given}; {print}")).current_dir(compiled());
                command
            }
            Self::Rust => panic!("the Rust example has no such function"),
        };
        // Both languages take a time without a zone as local time. Here that is never UTC.
        let settings =
            [("SECRET_ID", "x"), ("API_URL", "x"), ("AWS_DEFAULT_REGION", "eu-central-1"), ("TZ", "Asia/Tokyo")];
        let output = command.arg(json!(given).to_string()).envs(settings).output().expect("a program");
        let errors = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{self:?}: {error}: {errors}"))
    }
}

fn repository(path: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), path].iter().collect()
}

fn python(file: &str) -> Command {
    let mut command = Command::new(peer("PEER_PYTHON"));
    // -B writes no bytecode file next to the example; -u prints at once.
    command.arg("-Bu").arg(repository("tests/peers/readers/runtime.py"));
    command.arg(repository("examples/readers").join(file));
    command
}

fn node(file: &str) -> Command {
    let mut command = Command::new(peer("PEER_NODE"));
    command.arg(repository("tests/peers/readers/runtime.mjs")).arg(compiled().join(file));
    command
}

/// An example of this package. `tests/run` builds it.
pub fn rust(name: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_token-refresher")).with_file_name("examples").join(name);
    assert!(program.is_file(), "{} is missing: run tests/run, or cargo build --examples", program.display());
    Command::new(program)
}

/// Checks and compiles the TypeScript examples once. Returns their folder, which is next to the packages that they import.
pub fn compiled() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let packages = PathBuf::from(peer("PEER_NODE_FOLDER"));
        let folder = packages.join("readers");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        for file in ["node_sdk.mts", "node_extension.mts", "tsconfig.json"] {
            std::fs::copy(repository("examples/readers").join(file), folder.join(file)).expect(file);
        }
        let mut compiler = Command::new(peer("PEER_NODE"));
        compiler.arg(packages.join("node_modules/typescript/bin/tsc")).arg("--project").arg(&folder);
        let output = compiler.output().expect("the TypeScript compiler");
        assert!(output.status.success(), "tsc: {}", String::from_utf8_lossy(&output.stdout));
        folder
    })
}

/// A running function, and all its results.
pub struct ReaderProcess {
    api: RuntimeApi,
    function: Function,
    results: String,
}

impl ReaderProcess {
    pub async fn start(example: Example, environment: &[(&str, &str)]) -> Self {
        let api = RuntimeApi::start().await;
        let function = Function::run(example.command(), &api, environment);
        Self { api, function, results: String::new() }
    }

    /// Lets the function call the API with these paths. Returns the API's responses, or the function's error.
    pub async fn get(&mut self, paths: &[&str]) -> Result<Value, String> {
        let result = match self.api.invoke(&json!({"paths": paths}).to_string(), Deadline::InMs(60_000)).await {
            Outcome::Response(responses) => Ok(responses),
            Outcome::Error { error_type, message, .. } => Err(format!("{error_type}: {message}")),
            Outcome::Gone => panic!("the function died: {}", self.function.output()),
        };
        self.results.extend([format!("{result:?}\n")]);
        result
    }

    /// All output and all results.
    pub fn output(&self) -> String {
        format!("{}{}", self.function.output(), self.results)
    }
}
