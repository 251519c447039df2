//! OCI image layouts written byte by byte, so that a test can say exactly what an image holds —
//! also what no tool would write.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// How a layer's blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A bare tar.
    None,
    /// `+gzip`.
    Gzip,
    /// `+zstd`.
    Zstd,
}

/// One entry's owner, mode and time.
#[derive(Debug, Clone, Copy)]
pub struct Attributes {
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: u64,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_600_000_000,
        }
    }
}

/// A layer's tar in the making. Nothing is checked: hostile paths are written as given.
pub struct LayerTar {
    tar: tar::Builder<Vec<u8>>,
    attributes: Attributes,
    /// PAX records of the next entry.
    pax: Vec<(String, Vec<u8>)>,
}

/// What an entry is.
#[derive(Clone, Copy)]
enum Node<'a> {
    Directory,
    File(&'a [u8]),
    Symlink(&'a str),
    Hardlink(&'a str),
    Device(u32, u32),
    Fifo,
}

impl std::fmt::Debug for LayerTar {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LayerTar").finish_non_exhaustive()
    }
}

impl Default for LayerTar {
    fn default() -> Self {
        Self {
            tar: tar::Builder::new(Vec::new()),
            attributes: Attributes::default(),
            pax: Vec::new(),
        }
    }
}

impl LayerTar {
    /// Sets the attributes of the entries that follow.
    pub fn with(&mut self, attributes: Attributes) -> &mut Self {
        self.attributes = attributes;
        self
    }

    /// A directory of mode 755 unless [`Self::with`] said otherwise.
    pub fn dir(&mut self, path: &str) -> &mut Self {
        let mode = if self.attributes.mode == 0o644 {
            0o755
        } else {
            self.attributes.mode
        };
        self.entry(path, mode, Node::Directory)
    }

    /// A regular file.
    pub fn file(&mut self, path: &str, content: &[u8]) -> &mut Self {
        self.entry(path, self.attributes.mode, Node::File(content))
    }

    /// A regular file of mode 755.
    pub fn program(&mut self, path: &str, content: &[u8]) -> &mut Self {
        self.entry(path, 0o755, Node::File(content))
    }

    /// A symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.entry(path, 0o777, Node::Symlink(target))
    }

    /// A hard link to an earlier entry.
    pub fn hardlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.entry(path, self.attributes.mode, Node::Hardlink(target))
    }

    /// A character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) -> &mut Self {
        self.entry(path, self.attributes.mode, Node::Device(major, minor))
    }

    /// A FIFO.
    pub fn fifo(&mut self, path: &str) -> &mut Self {
        self.entry(path, self.attributes.mode, Node::Fifo)
    }

    /// Removes what a lower layer has at `path`.
    pub fn whiteout(&mut self, path: &str) -> &mut Self {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let slash = if parent.is_empty() { "" } else { "/" };
        self.file(&format!("{parent}{slash}.wh.{name}"), &[])
    }

    /// Hides everything lower layers have in `directory`.
    pub fn opaque(&mut self, directory: &str) -> &mut Self {
        self.file(&format!("{directory}/.wh..wh..opq"), &[])
    }

    /// Extended attributes for the next entry, as PAX records.
    pub fn xattr(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.pax(&format!("SCHILY.xattr.{name}"), value)
    }

    /// Any PAX record for the next entry.
    pub fn pax(&mut self, key: &str, value: &[u8]) -> &mut Self {
        self.pax.push((key.to_owned(), value.to_vec()));
        self
    }

    /// The finished tar.
    pub fn finish(self) -> Vec<u8> {
        self.tar.into_inner().unwrap()
    }

    fn entry(&mut self, path: &str, mode: u32, node: Node<'_>) -> &mut Self {
        let (kind, link, content, device): (_, &str, &[u8], _) = match node {
            Node::Directory => (tar::EntryType::Directory, "", &[], (0, 0)),
            Node::File(content) => (tar::EntryType::Regular, "", content, (0, 0)),
            Node::Symlink(target) => (tar::EntryType::Symlink, target, &[], (0, 0)),
            Node::Hardlink(target) => (tar::EntryType::Link, target, &[], (0, 0)),
            Node::Device(major, minor) => (tar::EntryType::Char, "", &[], (major, minor)),
            Node::Fifo => (tar::EntryType::Fifo, "", &[], (0, 0)),
        };
        let mut header = tar::Header::new_ustar();
        if path.len() > header.as_old().name.len() {
            self.pax("path", path.as_bytes());
        }
        let name = &mut header.as_old_mut().name;
        let fits = path.len().min(name.len());
        name[..fits].copy_from_slice(&path.as_bytes()[..fits]);
        if link.len() > header.as_old().linkname.len() {
            self.pax("linkpath", link.as_bytes());
        }
        let linkname = &mut header.as_old_mut().linkname;
        let fits = link.len().min(linkname.len());
        linkname[..fits].copy_from_slice(&link.as_bytes()[..fits]);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.attributes.uid);
        header.set_gid(self.attributes.gid);
        header.set_mtime(self.attributes.mtime);
        header.set_device_major(device.0).unwrap();
        header.set_device_minor(device.1).unwrap();
        header.set_size(content.len() as u64);
        header.set_cksum();
        let pax = std::mem::take(&mut self.pax);
        if !pax.is_empty() {
            let records = pax
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_slice()));
            self.tar.append_pax_extensions(records).unwrap();
        }
        self.tar.append(&header, content).unwrap();
        self
    }
}

/// A layer as it will lie in the layout.
#[derive(Debug, Clone)]
struct LayerBlob {
    diff_id: String,
    /// What its media type ends with.
    suffix: &'static str,
    bytes: Vec<u8>,
}

/// An image in the making: layers bottom first, and the config's `config` object.
#[derive(Debug, Clone)]
pub struct Image {
    layers: Vec<LayerBlob>,
    config: Value,
    architecture: String,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            layers: Vec::new(),
            config: json!({"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}),
            architecture: "amd64".to_owned(),
        }
    }
}

impl Image {
    /// An image without layers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a layer on top.
    pub fn layer(mut self, tar: &[u8], compression: Compression) -> Self {
        self.layers.push(LayerBlob {
            diff_id: digest(tar),
            suffix: match compression {
                Compression::None => "",
                Compression::Gzip => "+gzip",
                Compression::Zstd => "+zstd",
            },
            bytes: compress(tar, compression),
        });
        self
    }

    /// Adds a layer's blob as it is, whose uncompressed digest is not what the config says.
    pub fn blob(mut self, bytes: &[u8], compression: &'static str) -> Self {
        self.layers.push(LayerBlob {
            diff_id: digest(b""),
            suffix: match compression {
                "zstd" => "+zstd",
                _ => "+gzip",
            },
            bytes: bytes.to_vec(),
        });
        self
    }

    /// Replaces the `config` object.
    pub fn config(mut self, config: Value) -> Self {
        self.config = config;
        self
    }

    /// Sets the architecture (amd64 by default).
    pub fn architecture(mut self, architecture: &str) -> Self {
        architecture.clone_into(&mut self.architecture);
        self
    }
}

/// An image layout directory.
#[derive(Debug)]
pub struct Layout<'a> {
    root: &'a Path,
    entries: Vec<Value>,
}

impl<'a> Layout<'a> {
    /// Starts an empty layout at `root`.
    pub fn create(root: &'a Path) -> Self {
        fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self {
            root,
            entries: Vec::new(),
        }
    }

    /// Writes an image under `tag`.
    pub fn add(&mut self, tag: &str, image: &Image) {
        let mut descriptor = self.write_image(image);
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        self.entries.push(descriptor);
    }

    /// Writes an index of several platforms' images under `tag`.
    pub fn add_index(&mut self, tag: &str, images: &[Image]) {
        let manifests: Vec<Value> = images
            .iter()
            .map(|image| {
                let mut descriptor = self.write_image(image);
                descriptor["platform"] = json!({"os": "linux", "architecture": image.architecture});
                descriptor
            })
            .collect();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        });
        let mut descriptor = self.blob(
            "application/vnd.oci.image.index.v1+json",
            &serde_json::to_vec(&index).unwrap(),
        );
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        self.entries.push(descriptor);
    }

    /// Writes `index.json`.
    pub fn finish(self) {
        let index = json!({"schemaVersion": 2, "manifests": self.entries});
        fs::write(
            self.root.join("index.json"),
            serde_json::to_vec(&index).unwrap(),
        )
        .unwrap();
    }

    fn write_image(&self, image: &Image) -> Value {
        let mut diff_ids = Vec::new();
        let mut layers = Vec::new();
        for layer in &image.layers {
            diff_ids.push(layer.diff_id.clone());
            let media_type = format!("application/vnd.oci.image.layer.v1.tar{}", layer.suffix);
            layers.push(self.blob(&media_type, &layer.bytes));
        }
        let config = json!({
            "architecture": image.architecture,
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": image.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": layers.iter().map(|_| json!({"created_by": "e2e"})).collect::<Vec<_>>(),
        });
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let config_type = "application/vnd.oci.image.config.v1+json";
        let config = self.blob(config_type, &serde_json::to_vec(&config).unwrap());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": config,
            "layers": layers,
        });
        self.blob(manifest_type, &serde_json::to_vec(&manifest).unwrap())
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        let name = digest.trim_start_matches("sha256:");
        fs::write(self.root.join("blobs/sha256").join(name), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }
}

/// `sha256:…` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Compresses a layer's tar.
pub fn compress(tar: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => tar.to_vec(),
        Compression::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(tar).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(tar, 3).unwrap(),
    }
}

/// Names of the blobs of one image of a layout, layers bottom first: for tests that spoil one.
pub fn layer_digests(layout: &Path, tag: &str) -> Vec<String> {
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let index = read(&layout.join("index.json"));
    let by_tag: BTreeMap<&str, &str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| {
            Some((
                entry["annotations"]["org.opencontainers.image.ref.name"].as_str()?,
                entry["digest"].as_str()?,
            ))
        })
        .collect();
    let manifest = by_tag[tag].trim_start_matches("sha256:");
    read(&layout.join("blobs/sha256").join(manifest))["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["digest"].as_str().unwrap().to_owned())
        .collect()
}
