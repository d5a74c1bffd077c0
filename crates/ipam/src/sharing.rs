//! When two Services may have one address (compat §2.4, D27).

use api::{Service, Sharing};

/// Why these two cannot both be reached at one address; as the end of a sentence, with the mend.
pub(crate) fn clash(one: &Service, other: &Service) -> Option<String> {
    if let Some(port) = one.ports.iter().find(|p| other.ports.contains(p)) {
        return Some(format!(
            "both use port {}/{}; change the port of one, or ask for another address",
            port.protocol, port.port
        ));
    }
    // With policy Local the node that announces must have the pods of both. Without a selector nobody knows its pods.
    let same_pods = one.selector == other.selector && !one.selector.is_empty();
    ((one.local || other.local) && !same_pods).then(|| {
        "one has externalTrafficPolicy Local and they select different pods, so no node can serve both; \
         use policy Cluster for both, or ask for another address"
            .to_owned()
    })
}

/// Why a pool does not let a Service join another at an address.
pub(crate) fn forbidden(sharing: Sharing, one: &Service, other: &Service) -> Option<&'static str> {
    match sharing {
        Sharing::None => Some("spec.sharing of its pool is None; ask for another address"),
        Sharing::Namespace if one.key.namespace() != other.key.namespace() => {
            Some("spec.sharing of its pool lets only Services of one namespace share; ask for another address")
        }
        Sharing::Namespace | Sharing::Cluster => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::service::Port;

    fn service(port: u16, protocol: &str, local: bool, app: &str) -> Service {
        let ports = vec![Port { protocol: protocol.to_owned(), port }];
        let selector = if app.is_empty() { Default::default() } else { [("app".to_owned(), app.to_owned())].into() };
        Service { ports, local, selector, ..Service::default() }
    }

    #[test]
    fn a_port_clashes_only_with_the_same_port_of_the_same_protocol() {
        let web = service(80, "TCP", false, "a");
        assert!(clash(&web, &service(80, "TCP", false, "b")).unwrap().contains("TCP/80"));
        assert_eq!(clash(&web, &service(80, "UDP", false, "b")), None);
        assert_eq!(clash(&web, &service(81, "TCP", false, "b")), None);
    }

    #[test]
    fn policy_local_shares_only_with_the_same_pods() {
        let local = service(80, "TCP", true, "a");
        assert!(clash(&local, &service(81, "TCP", false, "b")).unwrap().contains("Local"));
        assert!(clash(&service(81, "TCP", false, "b"), &local).unwrap().contains("Local"));
        assert_eq!(clash(&local, &service(81, "TCP", true, "a")), None);
        assert!(clash(&service(80, "TCP", true, ""), &service(81, "TCP", true, "")).is_some());
    }
}
