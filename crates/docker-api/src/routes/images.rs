//! Images and registry log-in.
//!
//! Image names contain slashes, so everything beneath `/images/` that is no fixed path comes to
//! one handler a method, which tells the verbs apart by the path's end.

mod auth;
mod create;

use crate::error::from_engine_error;
use crate::routes::not_served;
use crate::wire::filters::Filters;
use crate::wire::images::{
    DeleteItem, DistributionInspect, HistoryLine, ImageInspect, ImageSummary, PruneReport,
};
use crate::{ApiError, ApiVersion, AppState};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use engine::containers::ListRequest;
use engine::images::{
    ImageError, ImageFilter, ImageUser, ImportError, RegistryError, RemoveError, RemoveOptions,
    ResolveError, TagError,
};
use http::{HeaderMap, Method, StatusCode, Uri};
use model::{ErrorKind, ImageId, Platform, Reference};
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

from_engine_error!(
    ImageError,
    ImportError,
    RegistryError,
    RemoveError,
    ResolveError,
    TagError,
);

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/images/json", get(list))
        .route("/images/create", post(create::create))
        .route("/images/prune", post(prune))
        .route(
            "/images/{*rest}",
            get(get_named).post(post_named).delete(remove),
        )
        .route("/distribution/{*rest}", get(distribution))
        .route("/auth", post(auth::log_in))
}

/// Query parameters in order; some may be repeated.
#[derive(Debug)]
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    fn all(&self, name: &str) -> Vec<String> {
        let named = self.0.iter().filter(|(key, _)| key == name);
        named.map(|(_, value)| value.clone()).collect()
    }

    /// Everything but nothing, `0`, `no`, `false` and `none` is true, as in docker.
    fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| {
            !matches!(
                value.to_ascii_lowercase().as_str(),
                "0" | "no" | "false" | "none"
            )
        })
    }

    fn platform(&self) -> Result<Option<Platform>, ApiError> {
        let Some(text) = self.text("platform") else {
            return Ok(None);
        };
        // From 1.48 on, some requests spell it as JSON.
        let platform = serde_json::from_str(text)
            .ok()
            .or_else(|| text.parse().ok());
        match platform {
            Some(platform) => Ok(Some(platform)),
            None => Err(ApiError::bad_request(format!("invalid platform {text:?}"))),
        }
    }
}

type Pairs = Query<Vec<(String, String)>>;

/// `GET /images/json`.
async fn list(
    State(state): State<AppState>,
    version: ApiVersion,
    Query(pairs): Pairs,
) -> Result<Json<Vec<ImageSummary>>, ApiError> {
    let parameters = Parameters(pairs);
    let known = [
        "before",
        "dangling",
        "label",
        "label!",
        "reference",
        "since",
        "until",
    ];
    let filters = Filters::parse(parameters.text("filters")).and_then(|f| f.only(&known));
    let mut filter = image_filter(&filters.map_err(ApiError::bad_request)?)?;
    // Before 1.41 a name could be given by itself.
    filter
        .references
        .extend(parameters.text("filter").map(str::to_owned));
    let images = state.engine.images();
    let with_shared = parameters.flag("shared-size");
    let summaries = images.list(&filter)?.into_iter().map(|image| {
        let shared = with_shared.then(|| images.shared_size_bytes(&image));
        ImageSummary::new(&image, shared, version)
    });
    Ok(Json(summaries.collect()))
}

fn image_filter(filters: &Filters) -> Result<ImageFilter, ApiError> {
    let one = |name: &str| filters.values(name).first().cloned();
    let labels = |name: &str| {
        let values = filters.values(name).iter();
        let pairs = values.map(|value| match value.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (value.clone(), None),
        });
        pairs.collect::<Vec<_>>()
    };
    let until = one("until").map(|text| {
        unix_seconds(&text)
            .ok_or_else(|| ApiError::bad_request(format!("invalid value for until: {text:?}")))
    });
    Ok(ImageFilter {
        dangling: filters.flag("dangling").map_err(ApiError::bad_request)?,
        labels: labels("label"),
        without_labels: labels("label!"),
        references: filters.values("reference").to_vec(),
        before: one("before"),
        since: one("since"),
        until_unix_s: until.transpose()?,
    })
}

/// `1700000000`, `2024-01-31T12:00:00Z`, `2024-01-31`, or an age as Go writes it: `24h`, `1h30m`.
fn unix_seconds(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.split('.').next().unwrap_or(text).parse() {
        return Some(seconds);
    }
    let date = format!("{text}T00:00:00Z");
    for text in [text, &date] {
        if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
            return Some(time.unix_timestamp());
        }
    }
    let mut age = 0_i64;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let mut units = after.chars();
        let seconds = match units.next()? {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        age = age.checked_add(number.parse::<i64>().ok()?.checked_mul(seconds)?)?;
        rest = units.as_str();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(now.as_secs()).ok()?.checked_sub(age)
}

/// `GET /images/{name}/json` and `/history`.
async fn get_named(
    State(state): State<AppState>,
    version: ApiVersion,
    Path(rest): Path<String>,
    Query(pairs): Pairs,
    uri: Uri,
) -> Result<Response, ApiError> {
    let images = state.engine.images();
    match split(&rest) {
        Some((name, "json")) => {
            let image = images.resolve(name)?;
            if let Some(wanted) = Parameters(pairs).platform()? {
                check_platform(name, &image.platform(), &wanted)?;
            }
            Ok(Json(ImageInspect::new(&image, version)).into_response())
        }
        Some((name, "history")) => {
            let (image, entries) = images.history(name)?;
            Ok(Json(HistoryLine::all(&image, entries)).into_response())
        }
        _ => Err(not_served(Method::GET, uri).await),
    }
}

fn check_platform(name: &str, actual: &Platform, wanted: &Platform) -> Result<(), ApiError> {
    if wanted.accepts(actual) {
        return Ok(());
    }
    let message = format!(
        "image with reference {name} was found but its platform ({actual}) does not match the \
         specified platform ({wanted})"
    );
    Err(ApiError::new(ErrorKind::NotFound, message))
}

/// `POST /images/{name}/tag`.
async fn post_named(
    State(state): State<AppState>,
    Path(rest): Path<String>,
    Query(pairs): Pairs,
    uri: Uri,
) -> Result<StatusCode, ApiError> {
    let Some((name, "tag")) = split(&rest) else {
        return Err(not_served(Method::POST, uri).await);
    };
    let parameters = Parameters(pairs);
    let repo = parameters.text("repo").unwrap_or_default();
    let reference = with_tag(parse_reference(repo)?, parameters.text("tag"))?;
    state.engine.images().tag(name, &reference).await?;
    Ok(StatusCode::CREATED)
}

/// `DELETE /images/{name}`.
async fn remove(
    State(state): State<AppState>,
    Path(name): Path<String>,
    Query(pairs): Pairs,
) -> Result<Json<Vec<DeleteItem>>, ApiError> {
    let options = RemoveOptions {
        force: Parameters(pairs).flag("force"),
    };
    let users = users(&state)?;
    let of = |id: &ImageId| users_of(&users, id);
    let removed = state.engine.images().remove(&name, options, of).await?;
    Ok(Json(removed.into_iter().map(DeleteItem::from).collect()))
}

/// `POST /images/prune`.
async fn prune(
    State(state): State<AppState>,
    Query(pairs): Pairs,
) -> Result<Json<PruneReport>, ApiError> {
    let known = ["dangling", "label", "label!", "until"];
    let filters = Filters::parse(Parameters(pairs).text("filters")).and_then(|f| f.only(&known));
    let mut filter = image_filter(&filters.map_err(ApiError::bad_request)?)?;
    // Here `dangling=false` means "not only the untagged ones".
    let all = filter.dangling.take() == Some(false);
    let users = users(&state)?;
    let of = |id: &ImageId| users_of(&users, id);
    let pruned = state.engine.images().prune(all, &filter, of).await?;
    let removed: Vec<DeleteItem> = pruned.removed.into_iter().map(DeleteItem::from).collect();
    Ok(Json(PruneReport {
        images_deleted: Some(removed).filter(|removed| !removed.is_empty()),
        space_reclaimed: pruned.reclaimed_bytes,
    }))
}

fn users(state: &AppState) -> Result<Vec<(ImageId, ImageUser)>, ApiError> {
    let request = ListRequest {
        all: true,
        ..ListRequest::default()
    };
    let containers = state.engine.containers().list(&request);
    let containers =
        containers.map_err(|error| ApiError::from_error(ErrorKind::Internal, &error))?;
    let users = containers.iter().map(|view| {
        let user = ImageUser {
            container: view.definition.id.clone(),
            running: view.is_running(),
        };
        (view.definition.image.id, user)
    });
    Ok(users.collect())
}

fn users_of(users: &[(ImageId, ImageUser)], id: &ImageId) -> Vec<ImageUser> {
    let of_image = users.iter().filter(|(image, _)| image == id);
    of_image.map(|(_, user)| user.clone()).collect()
}

/// `GET /distribution/{name}/json`.
async fn distribution(
    State(state): State<AppState>,
    Path(rest): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<DistributionInspect>, ApiError> {
    let Some((name, "json")) = split(&rest) else {
        return Err(not_served(Method::GET, uri).await);
    };
    let reference = parse_reference(name)?;
    let credentials = auth::from_headers(&headers);
    let described = state.engine.images().describe(&reference, credentials);
    let (descriptor, platforms) = described.await?;
    Ok(Json(DistributionInspect {
        descriptor,
        platforms,
    }))
}

/// `localhost:5000/a/b:tag/json` → the name and the verb.
fn split(rest: &str) -> Option<(&str, &str)> {
    rest.rsplit_once('/').filter(|(name, _)| !name.is_empty())
}

fn parse_reference(text: &str) -> Result<Reference, ApiError> {
    text.parse()
        .map_err(|error: model::InvalidReference| ApiError::bad_request(error.to_string()))
}

/// Puts the `tag` parameter, a tag or a digest, in the place of the reference's own.
fn with_tag(reference: Reference, tag: Option<&str>) -> Result<Reference, ApiError> {
    let Some(tag) = tag else {
        return Ok(reference);
    };
    if let Ok(digest) = tag.parse() {
        return Ok(reference.with_digest(digest));
    }
    reference
        .with_tag(tag)
        .map_err(|error| ApiError::bad_request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_slashes() {
        assert_eq!(
            split("localhost:5000/a/b:tag/json"),
            Some(("localhost:5000/a/b:tag", "json"))
        );
        assert_eq!(split("json"), None);
        assert_eq!(split("/json"), None);
    }

    #[test]
    fn times() {
        assert_eq!(unix_seconds("1700000000"), Some(1_700_000_000));
        assert_eq!(unix_seconds("1970-01-02"), Some(86_400));
        assert_eq!(unix_seconds("1970-01-01T00:00:10Z"), Some(10));
        let now = unix_seconds("0s").unwrap();
        let before = unix_seconds("1h30m").unwrap();
        assert!((5395..=5405).contains(&(now - before)));
        for bad in ["", "x", "5", "5x", "h"] {
            let expected = if bad == "5" { Some(5) } else { None };
            let parsed = if bad.is_empty() {
                None
            } else {
                unix_seconds(bad)
            };
            assert_eq!(parsed, expected, "{bad}");
        }
    }

    #[test]
    fn the_tag_parameter_wins() {
        let check = |name: &str, tag: Option<&str>, expected: &str| {
            let reference = with_tag(parse_reference(name).unwrap(), tag).unwrap();
            assert_eq!(reference.familiar(), expected);
        };
        check("a", None, "a:latest");
        check("a:1", Some("2"), "a:2");
        let digest = format!("sha256:{}", "ab".repeat(32));
        check("a:1", Some(&digest), &format!("a@{digest}"));
    }
}
