//! Where no registry can be reached: a Debian image from the machine's own package source.

use e2e::scenario;

#[test]
fn a_debian_image_is_made_from_the_package_source() {
    scenario(|machine| {
        let made = machine.berth(&["image", "bootstrap", "debian:bookworm"]);
        made.exits(0);
        let release = ["run", "--rm", "debian:bookworm", "cat", "/etc/os-release"];
        assert!(machine.berth(&release).ok().contains("bookworm"));
        // It is an image like any other, for the official client, too.
        let bash = [
            "run",
            "--rm",
            "debian:bookworm",
            "bash",
            "-c",
            "echo ${BASH_VERSION%%.*}",
        ];
        assert_eq!(machine.docker(&bash).ok(), "5");
        let images = machine.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        assert_eq!(images.ok(), "debian:bookworm");
    });
}
