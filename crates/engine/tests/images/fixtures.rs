//! Images made of bytes, and the answers of a registry that has them.

use crate::support::{Answer, Request, digest};
use model::Digest;
use model::image::media_type;
use std::collections::BTreeMap;
use std::io::Write;

/// An image as a registry holds it.
#[derive(Debug, Clone)]
pub(crate) struct Fixture {
    pub(crate) manifest: Vec<u8>,
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(crate) layers: Vec<Digest>,
}

/// One file in a layer of its own.
pub(crate) fn layer(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    tar.append_data(&mut header, name, bytes).unwrap();
    tar.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that do not compress.
pub(crate) fn noise(seed: u32, count: usize) -> Vec<u8> {
    let mut state = seed;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    bytes.take(count).collect()
}

impl Fixture {
    /// An image of uncompressed layers, which go out as gzip.
    pub(crate) fn new(layers: &[Vec<u8>]) -> Self {
        let compressed: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| digest(layer)).collect();
        Self::of(&compressed, &diff_ids)
    }

    /// The same with zstd.
    pub(crate) fn zstd(layers: &[Vec<u8>]) -> Self {
        let compress = |layer: &Vec<u8>| zstd::encode_all(layer.as_slice(), 1).unwrap();
        let compressed: Vec<Vec<u8>> = layers.iter().map(compress).collect();
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| digest(layer)).collect();
        Self::of(&compressed, &diff_ids)
    }

    /// An image of blobs, whatever they are, that claims the diff IDs.
    pub(crate) fn of(compressed: &[Vec<u8>], diff_ids: &[Digest]) -> Self {
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Cmd": ["sh"], "Labels": {"a": "b"}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string()
        .into_bytes();
        let describe = |media_type: &str, bytes: &[u8]| {
            serde_json::json!({
                "mediaType": media_type, "digest": digest(bytes), "size": bytes.len(),
            })
        };
        let descriptors: Vec<_> = compressed
            .iter()
            .map(|layer| match layer.get(..4) {
                Some([0x28, 0xb5, 0x2f, 0xfd]) => describe(media_type::OCI_LAYER_ZSTD, layer),
                _ => describe(media_type::OCI_LAYER_GZIP, layer),
            })
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": describe(media_type::OCI_CONFIG, &config), "layers": descriptors,
        })
        .to_string()
        .into_bytes();
        let mut blobs = BTreeMap::from([(digest(&config), config)]);
        blobs.extend(
            compressed
                .iter()
                .map(|layer| (digest(layer), layer.clone())),
        );
        Self {
            manifest,
            blobs,
            layers: compressed.iter().map(|layer| digest(layer)).collect(),
        }
    }

    /// What a registry that behaves answers.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        let last = request.path.rsplit('/').next().unwrap();
        if request.path.contains("/manifests/") {
            return Answer::new(200, self.manifest.clone())
                .header("Content-Type", media_type::OCI_MANIFEST)
                .header("Docker-Content-Digest", digest(&self.manifest).to_string());
        }
        let blob = last.parse().ok().and_then(|digest| self.blobs.get(&digest));
        match blob {
            Some(bytes) => Answer::ranged(request, bytes),
            None => Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
        }
    }
}
