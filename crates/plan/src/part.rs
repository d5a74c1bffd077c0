//! What is kept of each of thousands of Services.

use api::{Family, Service, ServiceKey};
use std::net::IpAddr;
use std::sync::Arc;

/// All of a Service that decides over its announcement.
#[derive(Debug, Clone, PartialEq)]
pub struct ServicePart {
    /// Namespace and name.
    pub key: ServiceKey,
    /// We announce it.
    pub served: bool,
    /// `spec.externalTrafficPolicy` is Local: only nodes with a serving endpoint may announce.
    pub local: bool,
    /// The one family that it has; `None` for one with both.
    pub family: Option<Family>,
    /// Its addresses.
    pub ingress: Box<[IpAddr]>,
    /// The label that records the pool.
    pub pool: Option<Arc<str>>,
}

impl ServicePart {
    /// Its EndpointSlices decide over candidates.
    pub fn needs_slices(&self) -> bool {
        self.served && self.local && !self.ingress.is_empty()
    }
}

impl From<&Service> for ServicePart {
    fn from(service: &Service) -> ServicePart {
        let family = if let [family] = service.families[..] { Some(family) } else { None };
        ServicePart {
            key: service.key.clone(),
            served: service.served,
            local: service.local,
            family,
            ingress: service.ingress.as_slice().into(),
            pool: service.pool_label.as_deref().map(Into::into),
        }
    }
}

impl From<Service> for ServicePart {
    fn from(service: Service) -> ServicePart {
        (&service).into()
    }
}

/// A Service of which only this is known.
impl From<ServicePart> for Service {
    fn from(part: ServicePart) -> Service {
        Service {
            key: part.key,
            served: part.served,
            local: part.local,
            families: part.family.into_iter().collect(),
            ingress: part.ingress.into_vec(),
            pool_label: part.pool.as_deref().map(str::to_owned),
            ..Service::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_over_the_announcement_survives_both_ways() {
        for families in [vec![], vec![Family::V6], vec![Family::V4, Family::V6]] {
            let service = Service {
                key: ServiceKey::new("n", "s"),
                uid: "u".to_owned(),
                served: true,
                local: true,
                families,
                ingress: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
                pool_label: Some("p".to_owned()),
                ..Service::default()
            };
            let part = ServicePart::from(&service);
            assert_eq!(ServicePart::from(Service::from(part.clone())), part);
            assert!(part.needs_slices());
        }
    }
}
