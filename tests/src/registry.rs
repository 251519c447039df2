//! The reference registry (`docker-registry`), run as a real process inside a test's namespaces.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::namespace::Namespace;
use crate::wait::wait_until;

/// `tester:secret`, as bcrypt.
const HTPASSWD: &str = "tester:$2y$05$CCCCCCCCCCCCCCCCCCCCC.pIKrLVkBX9/OvQMSygY1pWEVn72t6na\n";

/// A running registry; dropped, it is gone.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    /// `127.0.0.1:port`.
    pub address: String,
}

/// How a registry is to behave.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Its storage directory.
    pub storage: &'a Path,
    /// The port on loopback.
    pub port: u16,
    /// Refuse changes, so that several may serve one storage.
    pub read_only: bool,
    /// Ask for `tester` and `secret`.
    pub basic_auth: bool,
}

impl Registry {
    /// Starts a registry in `namespace`, with its configuration file in `scratch`.
    pub fn start(namespace: &Namespace, scratch: &Path, options: Options<'_>) -> Self {
        let Options {
            storage,
            port,
            read_only,
            basic_auth,
        } = options;
        fs::create_dir_all(scratch).unwrap();
        let address = format!("127.0.0.1:{port}");
        let auth = if basic_auth {
            let file = scratch.join(format!("htpasswd-{port}"));
            fs::write(&file, HTPASSWD).unwrap();
            format!(
                "auth: {{htpasswd: {{realm: e2e, path: \"{}\"}}}}\n",
                file.display()
            )
        } else {
            String::new()
        };
        let config = scratch.join(format!("registry-{port}.yml"));
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
                 storage:\n  filesystem: {{rootdirectory: \"{}\"}}\n  \
                 maintenance: {{readonly: {{enabled: {read_only}}}, uploadpurging: {{enabled: false}}}}\n  \
                 cache: {{blobdescriptor: inmemory}}\n\
                 http: {{addr: \"{address}\"}}\n{auth}",
                storage.display()
            ),
        )
        .unwrap();
        let log = fs::File::create(scratch.join(format!("registry-{port}.log"))).unwrap();
        let process = namespace
            .command("setpriv")
            .args(["--pdeathsig", "KILL", "docker-registry", "serve"])
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let registry = Self { process, address };
        // A thread of its own, because entering a network namespace cannot be taken back.
        std::thread::scope(|scope| {
            let ready = scope.spawn(|| {
                namespace.enter_network();
                wait_until("docker-registry listens", || get(&registry.address, "/v2/"));
            });
            ready
                .join()
                .expect("docker-registry (Debian's package of that name) starts");
        });
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _status = self.process.wait();
    }
}

fn get(address: &str, path: &str) -> Option<()> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut first = [0; 8];
    stream.read_exact(&mut first).ok()?;
    Some(())
}

/// Fills a new storage directory with every image of `layout`, pushed by skopeo.
///
/// An image's name in the layout, `library/busybox:latest`, says its repository and tag.
/// What is named `docker/…` is rewritten into docker's schema 2 on the way.
pub fn fill(storage: &Path, layout: &Path) {
    let namespace = Namespace::new("fill");
    let scratch = tempfile::tempdir().unwrap();
    fs::create_dir_all(storage).unwrap();
    let registry = Registry::start(
        &namespace,
        scratch.path(),
        Options {
            storage,
            port: 5000,
            read_only: false,
            basic_auth: false,
        },
    );
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    for entry in index["manifests"].as_array().unwrap() {
        let name = entry["annotations"]["org.opencontainers.image.ref.name"]
            .as_str()
            .unwrap();
        push(&namespace, &registry.address, layout, name);
    }
}

fn push(namespace: &Namespace, address: &str, layout: &Path, name: &str) {
    let form: &[&str] = if name.starts_with("docker/") {
        &["--format", "v2s2"]
    } else {
        &["--preserve-digests"]
    };
    let out = namespace
        .command("skopeo")
        .args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--all",
            "--dest-tls-verify=false",
        ])
        .args(form)
        .arg(format!("oci:{}:{name}", layout.display()))
        .arg(format!("docker://{address}/{name}"))
        .output()
        .expect("skopeo is installed");
    assert!(
        out.status.success(),
        "skopeo: {name}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// Copies a registry's storage, hard-linked where the file system allows, so that a test may
/// spoil it.
pub fn copy_storage(from: &Path, to: &Path) {
    let copy = |flags| {
        Command::new("cp")
            .arg(flags)
            .arg(from)
            .arg(to)
            .status()
            .unwrap()
            .success()
    };
    assert!(copy("-al") || copy("-a"));
}

/// Replaces one blob's bytes in a copied storage.
pub fn spoil_blob(storage: &Path, digest: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let hex = digest.trim_start_matches("sha256:");
    let path = storage
        .join("docker/registry/v2/blobs/sha256")
        .join(&hex[..2])
        .join(hex)
        .join("data");
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    // A new file: the old one may be shared with the storage this was copied from.
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
}
