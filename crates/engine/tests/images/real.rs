//! Pulls from the reference registry, filled by `skopeo`.

use crate::fixtures::{Fixture, layer, noise};
use crate::support::digest;
use crate::{Machine, chain};
use engine::images::{Credentials, Secret};
use model::image::media_type;
use model::{Platform, Reference};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const PASSWORD: &str = "correct horse";
/// bcrypt of [`PASSWORD`].
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\n";

/// A running registry; it is killed when dropped.
struct Registry {
    address: SocketAddr,
    root: TempDir,
    _process: Child,
}

impl Registry {
    /// Starts one, or says that it cannot.
    async fn start(auth: bool) -> Option<Self> {
        let missing = |program| !Path::new("/usr/bin").join(program).exists();
        for program in ["docker-registry", "skopeo"] {
            if missing(program) {
                println!("SKIPPED: {program} is not installed");
                return None;
            }
        }
        let root = tempfile::tempdir().unwrap();
        // Between this and the registry's own bind, another process could take the port; the wait
        // below would then find a stranger, and the test fail rather than pass.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let passwords = root.path().join("htpasswd");
        std::fs::write(&passwords, HTPASSWD).unwrap();
        let auth = if auth {
            format!(
                "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                passwords.display()
            )
        } else {
            String::new()
        };
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\n{auth}storage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: {address}}}\n",
            root.path().join("data").display()
        );
        let file = root.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        for _ in 0..200 {
            if TcpStream::connect(address).await.is_ok() {
                return Some(Self {
                    address,
                    root,
                    _process: process,
                });
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the registry does not answer");
    }

    fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.address).parse().unwrap()
    }

    /// Copies an OCI layout into the registry.
    async fn fill(&self, layout: &Path, name: &str, options: &[&str]) {
        let output = Command::new("skopeo")
            .args(["copy", "--quiet", "--all", "--dest-tls-verify=false"])
            .args(options)
            .arg(format!("oci:{}:latest", layout.display()))
            .arg(format!("docker://{}/{name}", self.address))
            .output()
            .await
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Writes an OCI layout with one top document.
    fn layout(&self, name: &str, top: &[u8], kind: &str, images: &[&Fixture]) -> PathBuf {
        let root = self.root.path().join(name);
        let blobs = root.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let put = |bytes: &[u8]| std::fs::write(blobs.join(digest(bytes).hex()), bytes).unwrap();
        put(top);
        for image in images {
            put(&image.manifest);
            image.blobs.values().for_each(|blob| put(blob));
        }
        std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
            "mediaType": kind, "digest": digest(top), "size": top.len(),
            "annotations": {"org.opencontainers.image.ref.name": "latest"},
        }]});
        std::fs::write(root.join("index.json"), index.to_string()).unwrap();
        root
    }
}

fn layers() -> Vec<Vec<u8>> {
    vec![layer("one", &noise(1, 300_000)), layer("two", b"two")]
}

fn image() -> Fixture {
    Fixture::new(&layers())
}

#[tokio::test]
async fn every_kind_of_manifest_and_layer() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let Some(registry) = Registry::start(false).await else {
        return;
    };
    let image = image();
    let layout = registry.layout("one", &image.manifest, media_type::OCI_MANIFEST, &[&image]);
    registry.fill(&layout, "oci:latest", &[]).await;
    registry
        .fill(&layout, "deep/er/s2:v1", &["--format=v2s2"])
        .await;
    let zstd = Fixture::zstd(&layers());
    let layout = registry.layout("zstd", &zstd.manifest, media_type::OCI_MANIFEST, &[&zstd]);
    registry.fill(&layout, "zstd:latest", &[]).await;
    let mut ids = Vec::new();
    for name in ["oci:latest", "deep/er/s2:v1", "zstd:latest"] {
        let pulled = machine.pull(&registry.reference(name)).await.unwrap();
        let file = machine
            .store
            .layers()
            .path(&pulled.image.layers[1])
            .join("two");
        assert_eq!(std::fs::read(file).unwrap(), b"two", "{name}");
        ids.push(pulled.image.layers.clone());
        let users = |_: &model::ImageId| Vec::new();
        machine
            .images
            .prune(true, &Default::default(), users)
            .await
            .unwrap();
    }
    assert!(ids.iter().all(|layers| *layers == ids[0]));
}

#[tokio::test]
async fn an_index_has_an_image_for_each_platform() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let Some(registry) = Registry::start(false).await else {
        return;
    };
    let amd64 = image();
    let config = |fixture: &Fixture| {
        let text = String::from_utf8(fixture.manifest.clone()).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let entry = |platform: &str| {
        serde_json::json!({
            "mediaType": config(&amd64)["mediaType"], "digest": digest(&amd64.manifest),
            "size": amd64.manifest.len(), "platform": {"os": "linux", "architecture": platform},
        })
    };
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry("amd64")],
    })
    .to_string()
    .into_bytes();
    let layout = registry.layout("multi", &index, media_type::OCI_INDEX, &[&amd64]);
    registry.fill(&layout, "multi:latest", &[]).await;
    let reference = registry.reference("multi:latest");
    let amd: Platform = "linux/amd64".parse().unwrap();
    let (pulled, _) = machine
        .pull_as(&reference, Some(amd), Credentials::Anonymous)
        .await;
    assert_eq!(pulled.unwrap().digest, digest(&index));
    let (descriptor, platforms) = machine
        .images
        .describe(&reference, Credentials::Anonymous)
        .await
        .unwrap();
    assert_eq!(descriptor.media_type, media_type::OCI_INDEX);
    assert_eq!(platforms, ["linux/amd64".parse().unwrap()]);

    let other: Platform = "linux/s390x".parse().unwrap();
    let (refused, _) = machine
        .pull_as(&reference, Some(other), Credentials::Anonymous)
        .await;
    assert_eq!(
        chain(&refused.unwrap_err()),
        "no matching manifest for linux/s390x in the manifest list entries"
    );
}

#[tokio::test]
async fn a_registry_with_passwords() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let Some(registry) = Registry::start(true).await else {
        return;
    };
    let image = image();
    let layout = registry.layout("one", &image.manifest, media_type::OCI_MANIFEST, &[&image]);
    let credentials = format!("--dest-creds=me:{PASSWORD}");
    registry.fill(&layout, "private:1", &[&credentials]).await;
    let reference = registry.reference("private:1");
    let with = async |password: &str| {
        let credentials = Credentials::Basic {
            username: "me".to_owned(),
            password: Secret::new(password),
        };
        let checked = machine.images.log_in(&reference, credentials.clone()).await;
        (
            machine.pull_as(&reference, None, credentials).await.0,
            checked,
        )
    };
    let anonymous = machine.pull(&reference).await.unwrap_err();
    assert!(
        chain(&anonymous).ends_with("no basic auth credentials"),
        "{anonymous:?}"
    );
    let (pulled, checked) = with("wrong").await;
    checked.unwrap_err();
    let refused = chain(&pulled.unwrap_err());
    assert!(
        refused.ends_with("unauthorized: authentication required"),
        "{refused}"
    );
    machine.assert_nothing_half_made(0);
    let (pulled, checked) = with(PASSWORD).await;
    pulled.unwrap();
    checked.unwrap();
}

#[tokio::test]
async fn what_is_not_there() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let Some(registry) = Registry::start(false).await else {
        return;
    };
    let reference = registry.reference("nothing:here");
    let error = machine.pull(&reference).await.unwrap_err();
    let name = reference.familiar();
    let expected = format!("manifest for {name} not found: manifest unknown: manifest unknown");
    assert_eq!(chain(&error), expected);
    assert_eq!(error.kind(), model::ErrorKind::NotFound);
}
