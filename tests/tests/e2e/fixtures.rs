//! The fixtures themselves: what the tests compare with must be what it claims to be.

use e2e::machine::{Machine, REGISTRY};
use e2e::{bootstrap, layout};

#[test]
fn the_registry_serves_every_fixture_with_its_media_types() {
    let mut machine = Machine::new();
    machine.start_registry();
    let manifest = |name: &str| {
        let out = machine
            .namespace
            .command("skopeo")
            .args(["inspect", "--raw", "--tls-verify=false"])
            .arg(format!("docker://{REGISTRY}/{name}"))
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    for (name, media_type) in [
        (
            "library/busybox",
            "application/vnd.oci.image.layer.v1.tar+gzip",
        ),
        ("test/zstd", "application/vnd.oci.image.layer.v1.tar+zstd"),
        ("test/plain", "application/vnd.oci.image.layer.v1.tar\""),
        ("test/index", "application/vnd.oci.image.index.v1+json"),
        (
            "docker/schema2",
            "application/vnd.docker.distribution.manifest.v2+json",
        ),
        (
            "docker/list",
            "application/vnd.docker.distribution.manifest.list.v2+json",
        ),
    ] {
        let manifest = manifest(name);
        assert!(manifest.contains(media_type), "{name}: {manifest}");
    }
    machine.finish();
}

#[test]
fn spoiling_a_copied_storage_leaves_the_cache_alone() {
    let cache = bootstrap::cache();
    let scratch = tempfile::tempdir_in(cache.registry.parent().unwrap()).unwrap();
    let storage = scratch.path().join("registry");
    e2e::registry::copy_storage(&cache.registry, &storage);
    let digest = &layout::layer_digests(&cache.layout, "test/big:latest")[1];
    e2e::registry::spoil_blob(&storage, digest, |bytes| bytes.truncate(10));
    let blob = |root: &std::path::Path| {
        let hex = digest.trim_start_matches("sha256:");
        let path = root
            .join("docker/registry/v2/blobs/sha256")
            .join(&hex[..2])
            .join(hex)
            .join("data");
        layout::digest(&std::fs::read(path).unwrap())
    };
    assert_eq!(&blob(&cache.registry), digest);
    assert_ne!(&blob(&storage), digest);
}
