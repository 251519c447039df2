//! Networks: list and inspect.

use crate::error::from_engine_error;
use crate::wire::filters::Filters;
use crate::wire::networks::Network;
use crate::{ApiError, AppState};
use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use engine::networks::{NetworkError, NetworkInfo};
use serde::Deserialize;

from_engine_error!(NetworkError);

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/networks", get(list))
        .route("/networks/{id}", get(inspect))
}

#[derive(Debug, Deserialize)]
struct ListQuery {
    filters: Option<String>,
}

/// `GET /networks`.
async fn list(
    State(state): State<AppState>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<Network>>, ApiError> {
    let selection = Selection::parse(query.filters.as_deref()).map_err(ApiError::bad_request)?;
    let mut networks = state.engine.networks().list();
    networks.retain(|network| selection.matches(network));
    Ok(Json(networks.into_iter().map(Network::summary).collect()))
}

#[derive(Debug, Deserialize)]
struct InspectQuery {
    scope: Option<String>,
}

/// `GET /networks/{id}`.
async fn inspect(
    State(state): State<AppState>,
    Path(reference): Path<String>,
    Query(query): Query<InspectQuery>,
) -> Result<Json<Network>, ApiError> {
    let scope = query.scope.unwrap_or_default();
    if !matches!(scope.as_str(), "" | "local") {
        return Err(NetworkError::NotFound(reference).into());
    }
    let network = state.engine.networks().inspect(&reference)?;
    Ok(Json(Network::from_info(network)))
}

/// Which networks a list shows.
#[derive(Debug, Default)]
struct Selection {
    filters: Filters,
    dangling: Option<bool>,
}

impl Selection {
    fn parse(parameter: Option<&str>) -> Result<Self, String> {
        let known = ["dangling", "driver", "id", "label", "name", "scope", "type"];
        let filters = Filters::parse(parameter)?.only(&known)?;
        for value in filters.values("type") {
            if !matches!(value.as_str(), "custom" | "builtin") {
                return Err(format!("invalid filter: 'type'='{value}'"));
            }
        }
        let dangling = filters.flag("dangling")?;
        Ok(Self { filters, dangling })
    }

    fn matches(&self, network: &NetworkInfo) -> bool {
        let builtin = is_predefined(&network.name);
        self.filters
            .any("driver", |driver| driver == network.driver.as_str())
            && self.filters.any("id", |id| network.id.contains(id))
            && self.filters.any("name", |name| network.name.contains(name))
            && self.filters.any("scope", |scope| scope == "local")
            && self
                .filters
                .any("type", |kind| (kind == "builtin") == builtin)
            && self.filters.labels(&network.labels)
            && self.dangling.is_none_or(|dangling| {
                // The predefined ones never count as left over.
                dangling == (network.containers.is_empty() && !builtin)
            })
    }
}

fn is_predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none")
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::networks::NetworkDriver;
    use std::collections::BTreeMap;
    use std::time::{Duration, UNIX_EPOCH};

    fn network(name: &str) -> NetworkInfo {
        NetworkInfo {
            id: "0123abcd".to_owned(),
            name: name.to_owned(),
            driver: NetworkDriver::Bridge,
            created: UNIX_EPOCH + Duration::from_millis(1500),
            subnet: Some("172.17.0.0/16".parse().unwrap()),
            gateway: Some([172, 17, 0, 1].into()),
            internal: false,
            options: BTreeMap::new(),
            labels: [("a".to_owned(), "1".to_owned())].into(),
            containers: BTreeMap::new(),
        }
    }

    #[test]
    fn filters_select() {
        let check = |filters: &str, expected: bool| {
            let selection = Selection::parse(Some(filters)).unwrap();
            assert_eq!(selection.matches(&network("bridge")), expected, "{filters}");
        };
        check("", true);
        check(r#"{"name":["idge"]}"#, true);
        check(r#"{"name":["x"]}"#, false);
        check(r#"{"type":["custom"]}"#, false);
        check(
            r#"{"type":["builtin"],"driver":["bridge"],"scope":["local"]}"#,
            true,
        );
        check(r#"{"id":["0123"],"label":["a=1"]}"#, true);
        check(r#"{"dangling":["true"]}"#, false);
        Selection::parse(Some(r#"{"type":["x"]}"#)).unwrap_err();
        Selection::parse(Some(r#"{"nme":["x"]}"#)).unwrap_err();
    }

    #[test]
    fn networks_look_like_dockers() {
        let json = serde_json::to_value(Network::from_info(network("bridge"))).unwrap();
        assert_eq!(json["Created"], "1970-01-01T00:00:01.5Z");
        assert_eq!(json["IPAM"]["Config"][0]["Subnet"], "172.17.0.0/16");
        assert_eq!(json["IPAM"]["Config"][0]["Gateway"], "172.17.0.1");
        assert_eq!(json["ConfigFrom"]["Network"], "");
        assert_eq!(json["EnableIPv6"], false);
    }
}
