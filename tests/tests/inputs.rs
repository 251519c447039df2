//! The fuzz targets' entry points, run for a bounded time on seeds, spoiled seeds and random bytes.
#[expect(
    unreachable_pub,
    reason = "the same file is the fuzz crate's public module"
)]
#[path = "../../fuzz/src/entries.rs"]
mod entries;

use e2e::layout::{Attributes, Compression, LayerTar, compress};
use proptest::collection::vec;
use proptest::prelude::*;

const REFERENCES: &[&str] = &[
    "ubuntu",
    "docker.io/library/ubuntu:latest",
    "localhost:5000/a/b_c/d-e.f:Tag_1.0-x",
    "[::1]:5000/image",
    "a@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "x.y/z:t@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
];

const DOCUMENTS: &[&str] = &[
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","size":2},"layers":[]}"#,
    r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","size":2,"platform":{"os":"linux","architecture":"arm64","variant":"v8"}}]}"#,
    r#"{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"Cmd":["sh"],"ExposedPorts":{"80/tcp":{}}},"rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"x","empty_layer":true}]}"#,
];

const BODIES: &[&str] = &[
    r#"{"Image":"busybox","Cmd":["sh","-c","true"],"Env":["A=b"],"User":"1000:50","Tty":true,"Labels":{"a":"b"},"StopSignal":"SIGTERM","ExposedPorts":{"80/tcp":{}},"HostConfig":{"Binds":["/a:/b:ro","name:/c"],"NetworkMode":"bridge","PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"}]},"RestartPolicy":{"Name":"no"},"AutoRemove":true,"CapAdd":["NET_ADMIN"],"CapDrop":["ALL"],"Memory":67108864,"NanoCpus":500000000,"PidsLimit":10,"Ulimits":[{"Name":"nofile","Soft":1,"Hard":2}],"Devices":[{"PathOnHost":"/dev/fuse","PathInContainer":"/dev/fuse","CgroupPermissions":"rwm"}],"SecurityOpt":["no-new-privileges"],"Tmpfs":{"/t":"size=1m"},"Mounts":[{"Type":"bind","Source":"/a","Target":"/m","ReadOnly":true}],"ExtraHosts":["a:127.0.0.1"],"LogConfig":{"Type":"json-file","Config":{"max-size":"1m"}}},"NetworkingConfig":{"EndpointsConfig":{}}}"#,
    r#"{"Image":"busybox","Entrypoint":[""],"Cmd":null,"HostConfig":{"NetworkMode":"container:x","PidMode":"host","IpcMode":"none"}}"#,
];

fn layers() -> Vec<Vec<u8>> {
    let mut tar = LayerTar::default();
    tar.dir("a")
        .file("a/f", b"content")
        .hardlink("a/g", "a/f")
        .symlink("a/up", "../../..");
    tar.whiteout("a/gone")
        .opaque("a")
        .fifo("a/fifo")
        .device("a/null", 1, 3);
    tar.xattr("user.x", b"y")
        .file("a/x", b"")
        .pax("mtime", b"1.5")
        .file("a/t", b"");
    tar.with(Attributes {
        mode: 0o7777,
        uid: 5,
        gid: 6,
        mtime: 7,
    })
    .file(&"long/".repeat(60), b"");
    let tar = tar.finish();
    [Compression::None, Compression::Gzip, Compression::Zstd]
        .iter()
        .map(|&compression| compress(&tar, compression))
        .collect()
}

/// A seed with some bytes changed, some cut out or doubled.
fn spoiled(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edits = vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..12);
    (prop::sample::select(seeds), edits).prop_map(|(mut bytes, edits)| {
        for (place, value, kind) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = value,
                1 => bytes.truncate(at),
                2 => bytes.insert(at, value),
                _ => {
                    let tail = bytes[at..].to_vec();
                    bytes.extend(tail.iter().take(1024));
                }
            }
        }
        bytes
    })
}

fn seeds(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The seeds themselves take the accepting path, or the rest proves little.
#[test]
fn seeds_are_accepted() {
    for text in REFERENCES {
        assert!(text.parse::<model::Reference>().is_ok(), "{text}");
    }
    let [manifest, index, config] = DOCUMENTS else {
        unreachable!("three documents")
    };
    serde_json::from_str::<model::image::Manifest>(manifest).unwrap();
    serde_json::from_str::<model::image::Index>(index).unwrap();
    serde_json::from_str::<model::image::ImageConfig>(config).unwrap();
    for body in BODIES {
        docker_api::read_create_body(body.as_bytes()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn references_from_spoiled_seeds(bytes in spoiled(seeds(REFERENCES))) {
        entries::reference(&bytes);
    }

    #[test]
    fn references_from_characters(text in "[a-z0-9./:@_A-Z\\[\\]-]{0,80}") {
        entries::reference(text.as_bytes());
    }

    #[test]
    fn documents_from_spoiled_seeds(bytes in spoiled(seeds(DOCUMENTS))) {
        entries::manifest(&bytes);
    }

    #[test]
    fn api_bodies_from_spoiled_seeds(bytes in spoiled(seeds(BODIES))) {
        entries::api_body(&bytes);
    }

    #[test]
    fn documents_from_bytes(bytes in vec(any::<u8>(), 0..256)) {
        entries::manifest(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn layers_from_spoiled_seeds(bytes in spoiled(layers())) {
        if rustix::process::geteuid().is_root() {
            entries::layer(&bytes);
        }
    }
}
