//! Who a process runs as: docker's `user[:group]` against `/etc/passwd` and `/etc/group`.
//!
//! Pure: the files come in as text. The rules are docker's, including that a name wins over a
//! number and that naming a group gives up the file's supplementary groups.

use crate::launch::UserRequest;

/// Resolved ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: Option<String>,
}

/// Docker's limit for numeric ids.
const MAX_ID: u32 = i32::MAX.unsigned_abs();

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Resolves `request`; the error is docker's wording.
pub(crate) fn resolve(
    request: &UserRequest,
    passwd: &str,
    group: &str,
) -> Result<Identity, String> {
    let (user, group_name) = request.user.split_once(':').unwrap_or((&request.user, ""));
    let number = user.parse::<u32>().ok();
    let found = entries(passwd).find(|entry| {
        if user.is_empty() {
            entry.uid == 0
        } else {
            entry.name == user
        }
    });
    let found =
        found.or_else(|| number.and_then(|uid| entries(passwd).find(|entry| entry.uid == uid)));
    let (uid, mut gid, home) = match (&found, number) {
        (Some(entry), _) => (entry.uid, entry.gid, Some(entry.home.to_owned())),
        (None, _) if user.is_empty() => (0, 0, None),
        (None, Some(uid)) => (in_range(uid)?, 0, None),
        (None, None) => {
            return Err(format!(
                "unable to find user {user}: no matching entries in passwd file"
            ));
        }
    };

    let mut groups = Vec::new();
    if !group_name.is_empty() {
        gid = resolve_group(group_name, group)?;
    } else if let Some(entry) = &found {
        groups = group_entries(group)
            .filter(|group| group.members.split(',').any(|member| member == entry.name))
            .map(|group| group.gid)
            .collect();
    }
    // As docker since CVE-2022-36109: else a file could shut out a primary group by a rule for it.
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    for extra in &request.groups {
        let extra = resolve_group(extra, group)?;
        if !groups.contains(&extra) {
            groups.push(extra);
        }
    }
    Ok(Identity {
        uid,
        gid,
        groups,
        home,
    })
}

/// The home directory that the file gives a user id.
pub(crate) fn home_of(uid: u32, passwd: &str) -> Option<&str> {
    entries(passwd)
        .find(|entry| entry.uid == uid)
        .map(|entry| entry.home)
}

fn resolve_group(name: &str, group: &str) -> Result<u32, String> {
    let number = name.parse::<u32>().ok();
    let found = group_entries(group).find(|entry| entry.name == name);
    match (found, number) {
        (Some(entry), _) => Ok(entry.gid),
        (None, Some(gid)) => in_range(gid),
        (None, None) => Err(format!(
            "unable to find group {name}: no matching entries in group file"
        )),
    }
}

fn in_range(id: u32) -> Result<u32, String> {
    if id <= MAX_ID {
        Ok(id)
    } else {
        Err("uids and gids must be in range 0-2147483647".into())
    }
}

fn entries(text: &str) -> impl Iterator<Item = Passwd<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields
            .next()
            .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let _password = fields.next();
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next().and_then(|gid| gid.parse().ok()).unwrap_or(0);
        let home = fields.nth(1).unwrap_or("");
        Some(Passwd {
            name,
            uid,
            gid,
            home,
        })
    })
}

fn group_entries(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields
            .next()
            .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let _password = fields.next();
        let gid = fields.next()?.parse().ok()?;
        Some(Group {
            name,
            gid,
            members: fields.next().unwrap_or(""),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\n\
        www-data:x:33:33:www:/var/www:/bin/false\n1000:x:7:8::/odd:\nann:x:1000:1000::/home/ann:";
    const GROUP: &str = "root:x:0:\nwww-data:x:33:ann\nwheel:x:10:root,ann\nann:x:1000:\n";

    fn check(user: &str, uid: u32, gid: u32, groups: &[u32], home: Option<&str>) {
        let request = UserRequest {
            user: user.into(),
            groups: vec![],
        };
        let got = resolve(&request, PASSWD, GROUP).unwrap();
        assert_eq!(
            (got.uid, got.gid, &got.groups[..]),
            (uid, gid, groups),
            "{user}"
        );
        assert_eq!(got.home.as_deref(), home, "{user}");
    }

    #[test]
    fn users_as_docker_resolves_them() {
        check("", 0, 0, &[0, 10], Some("/root"));
        check("root", 0, 0, &[0, 10], Some("/root"));
        check("ann", 1000, 1000, &[1000, 33, 10], Some("/home/ann"));
        check("ann:root", 1000, 0, &[0], Some("/home/ann"));
        check("ann:77", 1000, 77, &[77], Some("/home/ann"));
        check("33", 33, 33, &[33], Some("/var/www"));
        check("1000", 7, 8, &[8], Some("/odd")); // a name wins over a number
        check("4242", 4242, 0, &[0], None);
        check("4242:4243", 4242, 4243, &[4243], None);
    }

    #[test]
    fn the_errors_are_dockers() {
        let fail = |user: &str, groups: &[&str]| {
            let groups = groups.iter().map(|&group| group.to_owned()).collect();
            resolve(
                &UserRequest {
                    user: user.into(),
                    groups,
                },
                PASSWD,
                GROUP,
            )
            .unwrap_err()
        };
        assert_eq!(
            fail("nobody", &[]),
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(
            fail("root:none", &[]),
            "unable to find group none: no matching entries in group file"
        );
        assert_eq!(
            fail("", &["none"]),
            "unable to find group none: no matching entries in group file"
        );
        assert_eq!(
            fail("4000000000", &[]),
            "uids and gids must be in range 0-2147483647"
        );
    }

    #[test]
    fn further_groups_come_by_name_or_number() {
        let request = UserRequest {
            user: "ann".into(),
            groups: vec!["wheel".into(), "5".into()],
        };
        assert_eq!(
            resolve(&request, PASSWD, GROUP).unwrap().groups,
            [1000, 33, 10, 5]
        );
    }

    proptest::proptest! {
        #[test]
        fn never_panics(user in ".*", passwd in ".*", group in ".*") {
            drop(resolve(&UserRequest { user, groups: vec![] }, &passwd, &group));
        }
    }
}
