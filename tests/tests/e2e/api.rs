//! The HTTP surface itself: versions, prefixes, errors, what is not there yet.

use e2e::scenario;

#[test]
fn versions_are_negotiated() {
    scenario(|machine| {
        let ping = machine.api("GET", "/_ping", "");
        assert_eq!((ping.status, ping.body.as_str()), (200, "OK"));
        let newest = ping.header("Api-Version").unwrap().to_owned();
        let version = machine.api("GET", "/version", "").json();
        assert_eq!(version["ApiVersion"], newest.as_str());
        assert_eq!(version["MinAPIVersion"], "1.24");
        for prefix in ["", "/v1.24", "/v1.41", &format!("/v{newest}")] {
            assert_eq!(
                machine.api("GET", &format!("{prefix}/info"), "").status,
                200,
                "{prefix}"
            );
        }
        let old = machine.api("GET", "/v1.23/info", "");
        assert_eq!(old.status, 400, "{}", old.body);
        assert!(old.json()["message"].as_str().unwrap().contains("1.24"));
        let new = machine.api("GET", "/v9.99/info", "");
        assert_eq!(new.status, 400, "{}", new.body);
        assert!(new.json()["message"].as_str().unwrap().contains(&newest));
    });
}

#[test]
fn what_is_not_there_says_so() {
    scenario(|machine| {
        for (method, path) in [
            ("POST", "/swarm/init"),
            ("GET", "/plugins"),
            ("POST", "/v1.43/build"),
        ] {
            let answer = machine.api(method, path, "");
            assert_eq!(answer.status, 501, "{method} {path}: {}", answer.body);
            let message = answer.json()["message"].as_str().unwrap().to_owned();
            assert!(
                message.contains(path.rsplit('/').next().unwrap()),
                "{message}"
            );
        }
        let unknown = machine.api("GET", "/no/such/thing", "");
        assert_eq!(unknown.status, 404, "{}", unknown.body);
        assert!(unknown.json()["message"].is_string());
    });
}

#[test]
fn bad_bodies_are_told_from_bad_luck() {
    scenario(|machine| {
        for body in [
            "",
            "{",
            "[]",
            r#"{"Image": 7}"#,
            r#"{"HostConfig": {"Memory": "much"}}"#,
        ] {
            let answer = machine.api("POST", "/containers/create", body);
            assert_eq!(answer.status, 400, "{body:?}: {}", answer.body);
            assert!(answer.json()["message"].is_string());
        }
        let answer = machine.api("POST", "/containers/create", r#"{"Image": "nothing-here"}"#);
        assert_eq!(answer.status, 404, "{}", answer.body);
        for (method, path) in [
            ("GET", "/containers/nobody/json"),
            ("POST", "/containers/nobody/start"),
            ("DELETE", "/containers/nobody"),
            ("GET", "/images/nothing-here/json"),
            ("POST", "/exec/nobody/start"),
            ("GET", "/networks/nobody"),
        ] {
            let answer = machine.api(method, path, "{}");
            assert_eq!(answer.status, 404, "{method} {path}: {}", answer.body);
            assert!(
                answer.json()["message"].as_str().unwrap().contains("no"),
                "{}",
                answer.body
            );
        }
    });
}

#[test]
fn a_setting_that_is_not_there_yet_is_refused_by_name() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        let body = r#"{"Image": "busybox", "HostConfig": {"StorageOpt": {"size": "1G"}}}"#;
        let answer = machine.api("POST", "/containers/create", body);
        assert!(
            matches!(answer.status, 400 | 501),
            "{} {}",
            answer.status,
            answer.body
        );
        assert!(
            answer.body.to_lowercase().contains("storage"),
            "{}",
            answer.body
        );
        assert!(machine.containers().is_empty());
    });
}

#[test]
fn events_tell_a_containers_life() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        machine
            .berth(&["run", "--rm", "--name", "box", "busybox", "true"])
            .ok();
        let until = since + 3;
        let answer = machine.api("GET", &format!("/events?since={since}&until={until}"), "");
        let actions: Vec<String> = answer
            .body
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|event| event["Type"] == "container")
            .map(|event| event["Action"].as_str().unwrap().to_owned())
            .collect();
        let places: Vec<_> = ["create", "start", "die", "destroy"]
            .iter()
            .map(|wanted| actions.iter().position(|action| action == wanted))
            .collect();
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{actions:?}"
        );
    });
}
