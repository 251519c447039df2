//! A reference → the manifest for one platform, verified.

use crate::client::{Ask, Repository};
use crate::error::{RegistryError, RegistryReply, ResolveError};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use model::image::{Descriptor, Index, Manifest, media_type};
use model::{Digest, Platform};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Longest manifest or index; registries must take 4 MiB (distribution-spec, "Pushing manifests").
const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest image config. Build histories make some long; none comes near this.
const CONFIG_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Indexes that lead to one manifest. Two are seen in the wild.
const INDEX_DEPTH_MAX: usize = 3;

const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// What a reference means on one platform.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// What the reference itself names: the index where there is one, else the manifest. Its
    /// digest is what docker calls the repository digest.
    pub target: Descriptor,
    /// The manifest for the platform.
    pub descriptor: Descriptor,
    /// The manifest's bytes, whose digest is `descriptor.digest`.
    pub bytes: Bytes,
    /// The manifest, read.
    pub manifest: Manifest,
    /// The index's bytes, if the reference names one.
    pub index: Option<Bytes>,
    /// The platforms that there are, as far as an index says so.
    pub platforms: Vec<Platform>,
}

/// A document as it came.
struct Document {
    descriptor: Descriptor,
    url: String,
    bytes: Bytes,
}

impl Repository {
    /// Says what the reference names, without fetching it. Public registries count fetches
    /// against their limits, and not this.
    ///
    /// # Errors
    /// The registry cannot be reached, or has no such thing.
    pub async fn probe(&self) -> Result<Option<Digest>, ResolveError> {
        let ask = self.manifest_ask(Method::HEAD, &self.reference().manifest_selector());
        let answer = self.ask(&ask).await.map_err(|error| self.explain(error))?;
        Ok(content_digest(answer.response.headers()))
    }

    /// Finds the manifest for `platform`.
    ///
    /// # Errors
    /// The registry cannot be reached, has no such image or none for the platform, or what it
    /// sends is malformed or has another digest than was asked for.
    pub async fn resolve(&self, platform: &Platform) -> Result<Resolved, ResolveError> {
        let reference = self.reference();
        let expected = reference.digest();
        let selector = reference.manifest_selector();
        let mut document = self.document(&selector, expected).await?;
        let target = document.descriptor.clone();
        let mut index_bytes = None;
        let mut platforms = Vec::new();
        for _ in 0..INDEX_DEPTH_MAX {
            match self.read(&document)? {
                Read::Manifest(manifest) => {
                    return Ok(Resolved {
                        target,
                        descriptor: document.descriptor,
                        bytes: document.bytes,
                        manifest,
                        index: index_bytes,
                        platforms,
                    });
                }
                Read::Index(index) => {
                    let offered = offered(&index);
                    let chosen = choose(&index, platform).cloned();
                    let chosen = chosen.ok_or_else(|| ResolveError::NoMatchingManifest {
                        platform: platform.clone(),
                        offered: offered.clone(),
                    })?;
                    if index_bytes.is_none() {
                        index_bytes = Some(document.bytes.clone());
                        platforms = offered;
                    }
                    let digest = chosen.digest;
                    document = self.document(&digest.to_string(), Some(digest)).await?;
                }
            }
        }
        Err(ResolveError::TooDeep {
            reference: reference.familiar(),
        })
    }

    /// Says what the reference names and for which platforms it is, without choosing one.
    ///
    /// # Errors
    /// The registry cannot be reached, or has no such thing.
    pub async fn describe(&self) -> Result<(Descriptor, Vec<Platform>), ResolveError> {
        let reference = self.reference();
        let selector = reference.manifest_selector();
        let document = self.document(&selector, reference.digest()).await?;
        let platforms = match self.read(&document)? {
            Read::Index(index) => offered(&index),
            Read::Manifest(manifest) => {
                let config = self.fetch_config(&manifest.config).await?;
                // What is no image config has no platform either.
                serde_json::from_slice::<Platform>(&config)
                    .into_iter()
                    .collect()
            }
        };
        Ok((document.descriptor, platforms))
    }

    /// Fetches an image config, verified.
    ///
    /// # Errors
    /// The registry cannot be reached, has no such blob, or sends other bytes.
    pub async fn fetch_config(&self, descriptor: &Descriptor) -> Result<Bytes, RegistryError> {
        let ask = Ask {
            method: Method::GET,
            path: self.path(&format!("blobs/{}", descriptor.digest)),
            headers: HeaderMap::new(),
        };
        let limit = usize::try_from(descriptor.size.min(CONFIG_BYTES_MAX)).unwrap_or(usize::MAX);
        let (_, url, bytes) = self.fetch_small(&ask, limit).await?;
        verify(&url, descriptor.digest, &bytes)?;
        Ok(bytes)
    }

    async fn document(
        &self,
        selector: &str,
        expected: Option<Digest>,
    ) -> Result<Document, ResolveError> {
        let ask = self.manifest_ask(Method::GET, selector);
        let fetched = self.fetch_small(&ask, MANIFEST_BYTES_MAX).await;
        let (headers, url, bytes) = fetched.map_err(|error| self.explain(error))?;
        // A tag names no digest, but the registry says which one it means to send.
        let actual = digest_of(&bytes);
        for expected in expected.into_iter().chain(content_digest(&headers)) {
            verify(&url, expected, &bytes)?;
        }
        let content_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .unwrap_or_default();
        Ok(Document {
            descriptor: Descriptor {
                media_type: content_type.trim().to_owned(),
                digest: actual,
                size: bytes.len() as u64,
                platform: None,
                annotations: BTreeMap::new(),
            },
            url,
            bytes,
        })
    }

    fn manifest_ask(&self, method: Method, selector: &str) -> Ask {
        let accept = HeaderValue::from_static(ACCEPT);
        Ask {
            method,
            path: self.path(&format!("manifests/{selector}")),
            headers: HeaderMap::from_iter([(header::ACCEPT, accept)]),
        }
    }

    fn read(&self, document: &Document) -> Result<Read, ResolveError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            #[serde(default)]
            media_type: String,
            #[serde(default)]
            schema_version: u32,
            #[serde(default)]
            manifests: Option<serde::de::IgnoredAny>,
        }
        let malformed = |what| {
            let url = document.url.clone();
            move |source| RegistryError::Malformed { url, what, source }
        };
        let shape: Shape =
            serde_json::from_slice(&document.bytes).map_err(malformed("manifest"))?;
        // The document's own word counts first: mirrors and caches lose content types.
        let declared = Some(shape.media_type.as_str())
            .filter(|own| !own.is_empty())
            .unwrap_or(&document.descriptor.media_type);
        let is_index = match declared {
            media_type::OCI_INDEX | media_type::DOCKER_INDEX => true,
            media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => false,
            "" | "application/json" | "application/octet-stream" if shape.schema_version == 2 => {
                shape.manifests.is_some()
            }
            other => {
                return Err(ResolveError::UnsupportedMediaType {
                    reference: self.reference().familiar(),
                    media_type: other.chars().take(120).collect(),
                });
            }
        };
        if is_index {
            let index = serde_json::from_slice(&document.bytes).map_err(malformed("index"))?;
            return Ok(Read::Index(index));
        }
        let manifest = serde_json::from_slice(&document.bytes).map_err(malformed("manifest"))?;
        Ok(Read::Manifest(manifest))
    }

    /// Gives a refusal the meaning that docker gives it.
    fn explain(&self, error: RegistryError) -> ResolveError {
        let RegistryError::Refused { status, reply, .. } = &error else {
            return error.into();
        };
        let reference = self.reference();
        let name = reference.familiar_name();
        let reply = reply.clone();
        match (reply.code.as_str(), *status) {
            ("NAME_UNKNOWN", _) => ResolveError::RepositoryUnknown { name, reply },
            ("MANIFEST_UNKNOWN", _) | (_, StatusCode::NOT_FOUND) => {
                // HEAD has no body to say it with.
                let reply = if reply.code.is_empty() {
                    RegistryReply {
                        code: "MANIFEST_UNKNOWN".to_owned(),
                        message: "manifest unknown".to_owned(),
                    }
                } else {
                    reply
                };
                ResolveError::ManifestUnknown {
                    reference: reference.familiar(),
                    reply,
                }
            }
            // Public registries do not tell a missing repository from a private one.
            ("DENIED", _) | (_, StatusCode::FORBIDDEN) => Self::denied(name),
            // Who showed a password wants to hear that it is wrong.
            (_, StatusCode::UNAUTHORIZED) if self.is_anonymous() => Self::denied(name),
            _ => error.into(),
        }
    }

    fn denied(name: String) -> ResolveError {
        ResolveError::Denied {
            name,
            reply: RegistryReply {
                code: "DENIED".to_owned(),
                message: "requested access to the resource is denied".to_owned(),
            },
        }
    }
}

enum Read {
    Manifest(Manifest),
    Index(Index),
}

fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    let value = headers.get("docker-content-digest")?.to_str().ok()?;
    value.parse().ok()
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

fn verify(url: &str, expected: Digest, bytes: &[u8]) -> Result<(), RegistryError> {
    let actual = digest_of(bytes);
    if actual == expected {
        return Ok(());
    }
    Err(RegistryError::WrongDigest {
        url: url.to_owned(),
        expected,
        actual,
    })
}

/// The platforms of an index. Attestations call theirs `unknown` and are no images.
fn offered(index: &Index) -> Vec<Platform> {
    let platforms = index.manifests.iter().filter_map(|m| m.platform.clone());
    platforms
        .filter(|platform| platform.os != "unknown")
        .collect()
}

/// Chooses the manifest for a platform: the one with the very variant, else the first that runs.
/// One without a platform serves where none fits, as a nested index's does.
fn choose<'a>(index: &'a Index, wanted: &Platform) -> Option<&'a Descriptor> {
    let fits = |descriptor: &&Descriptor| {
        let platform = descriptor.platform.as_ref();
        platform.is_some_and(|platform| wanted.accepts(platform))
    };
    let exact = |descriptor: &&Descriptor| {
        let platform = descriptor.platform.as_ref();
        platform.is_some_and(|platform| platform.variant == wanted.variant)
    };
    let candidates = || index.manifests.iter().filter(fits);
    candidates()
        .find(exact)
        .or_else(|| candidates().next())
        .or_else(|| index.manifests.iter().find(|m| m.platform.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses() {
        let digest = |n: u8| Digest::from_sha256([n; 32]);
        let entry = |n: u8, platform: &str| Descriptor {
            media_type: media_type::OCI_MANIFEST.to_owned(),
            digest: digest(n),
            size: 1,
            platform: platform.parse().ok(),
            annotations: BTreeMap::new(),
        };
        let index = Index {
            schema_version: 2,
            media_type: String::new(),
            manifests: vec![
                entry(1, "linux/amd64"),
                entry(2, "linux/arm/v6"),
                entry(3, "linux/arm/v7"),
                entry(4, "linux/arm64/v8"),
            ],
        };
        let check = |platform: &str, expected: Option<u8>| {
            let chosen = choose(&index, &platform.parse().unwrap());
            assert_eq!(chosen.map(|d| d.digest), expected.map(digest), "{platform}");
        };
        check("linux/amd64", Some(1));
        check("linux/arm/v7", Some(3));
        check("linux/arm", Some(2));
        check("linux/arm64", Some(4));
        check("linux/s390x", None);
        check("windows/amd64", None);
    }
}
