use super::*;
use api::speaker::{OwnedAddress, Speaker, SpeakerStatus};
use api::{EipStatus, Family, Node};
use serde_json::json;
use source::{ServicePatch, WriteError};

/// An API server: objects, their versions, and everything that a watch would say.
#[derive(Default)]
struct Server {
    version: u64,
    services: BTreeMap<ServiceKey, Service>,
    pools: BTreeMap<String, Eip>,
    others: Vec<Object>,
    log: Vec<Event>,
}

impl Server {
    fn tell(&mut self, object: Object) {
        self.log.push(Event::Change(Change::Apply(object)));
    }

    fn put_pool(&mut self, name: &str, spec: serde_json::Value) {
        let eip = json!({
            "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip", "spec": spec,
            "metadata": {"name": name, "annotations": {keys::DEFAULT_POOL: "true"}},
        });
        let mut eip: Eip = serde_json::from_value(eip).unwrap();
        eip.status = self.pools.get(name).and_then(|e| e.status.clone());
        self.pools.insert(name.to_owned(), eip.clone());
        self.tell(Object::Pool(Box::new(eip)));
    }

    fn put(&mut self, mut service: Service) {
        self.version += 1;
        service.resource_version = self.version.to_string();
        if let Some(before) = self.services.get(&service.key) {
            service.uid.clone_from(&before.uid);
        } else {
            service.uid = format!("uid{}", self.version);
        }
        self.services.insert(service.key.clone(), service.clone());
        self.tell(Object::Service(service.into()));
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Service)) {
        let mut service = self.services[&key(name)].clone();
        change(&mut service);
        self.put(service);
    }

    fn delete(&mut self, name: &str) {
        self.services.remove(&key(name));
        self.log.push(Event::Change(Change::Delete(ObjectRef::Service(key(name)))));
    }

    fn put_other(&mut self, object: Object) {
        self.others.push(object.clone());
        self.tell(object);
    }

    fn write(&mut self, write: &Write) -> Result<Option<String>, WriteError> {
        match write {
            Write::Service(patch) => self.patch(patch),
            Write::PoolStatus { name, status } => {
                let Some(eip) = self.pools.get_mut(name) else { return Err(WriteError::Gone) };
                eip.status = Some(*status.clone());
                let eip = eip.clone();
                self.tell(Object::Pool(Box::new(eip)));
                Ok(None)
            }
            Write::Finalizer { of: ObjectRef::Pool(name) } => {
                let Some(eip) = self.pools.get_mut(name) else { return Err(WriteError::Gone) };
                eip.metadata.finalizers = None;
                let eip = eip.clone();
                self.tell(Object::Pool(Box::new(eip)));
                Ok(None)
            }
            Write::Memberlist { key } => {
                self.put_other(Object::Memberlist(vec![key.clone()]));
                Ok(None)
            }
            Write::Ownership { write, .. } => {
                self.put_other(Object::Ownership(Ok(*write.clone())));
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn patch(&mut self, patch: &ServicePatch) -> Result<Option<String>, WriteError> {
        let Some(mut service) = self.services.get(&patch.key).cloned() else { return Err(WriteError::Gone) };
        if service.resource_version != patch.resource_version {
            return Err(WriteError::Conflict);
        }
        if let Some(ingress) = &patch.ingress {
            service.ingress.clone_from(ingress);
            service.has_ingress = !ingress.is_empty();
        }
        if let Some(label) = &patch.pool_label {
            service.pool_label.clone_from(label);
        }
        service.legacy_finalizer &= !patch.remove_finalizer;
        let changed = |c: &Condition| patch.conditions.iter().any(|p| p.type_ == c.type_);
        service.conditions.retain(|c| !changed(c) && !patch.remove_conditions.contains(&c.type_));
        service.conditions.extend(patch.conditions.iter().cloned());
        self.put(service);
        Ok(Some(self.version.to_string()))
    }
}

/// A controller with its place in the watch.
struct Controller {
    planner: Planner,
    read: usize,
    flying: Vec<(Ticket, Write)>,
}

impl Controller {
    fn start(server: &Server, now: Tick) -> Controller {
        let mut planner = Planner::default();
        let apply = |o: Object| Event::Change(Change::Apply(o));
        server.pools.values().for_each(|p| planner.event(now, apply(Object::Pool(Box::new(p.clone())))));
        server.services.values().for_each(|s| planner.event(now, apply(Object::Service(s.clone().into()))));
        server.others.iter().for_each(|o| planner.event(now, apply(o.clone())));
        planner.event(now, Event::Synced);
        Controller { planner, read: server.log.len(), flying: vec![] }
    }

    fn read(&mut self, server: &Server, now: Tick, events: usize) {
        for event in server.log[self.read..].iter().take(events) {
            self.planner.event(now, event.clone());
            self.read += 1;
        }
        self.planner.plan(now);
    }

    fn take_off(&mut self, now: Tick, most: usize) {
        while self.flying.len() < most {
            let Some((ticket, write)) = self.planner.next(now) else { break };
            if let Write::Service(patch) = &write {
                let same = |w: &Write| matches!(w, Write::Service(p) if p.key == patch.key);
                assert!(!self.flying.iter().any(|(_, w)| same(w)), "two writes of {} at once", patch.key);
            }
            self.flying.push((ticket, write));
        }
    }

    /// Lets everything happen until nothing does any more; what was written, with when.
    fn settle(&mut self, server: &mut Server, now: &mut Tick) -> Vec<(Tick, Write)> {
        let mut written = vec![];
        for _ in 0..10_000 {
            self.read(server, *now, usize::MAX);
            self.take_off(*now, 4);
            if let Some((ticket, write)) = self.flying.pop() {
                let result = server.write(&write);
                self.planner.done(*now, ticket, result);
                written.push((*now, write));
            } else if self.read == server.log.len() {
                match self.planner.deadline() {
                    None => return written,
                    Some(at) => *now = (*now).max(at),
                }
            }
        }
        panic!("it never settles; the last writes: {:#?}", &written[written.len() - 4..]);
    }
}

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("d", name)
}

fn service(name: &str) -> Service {
    Service { key: key(name), served: true, families: vec![Family::V4], ..Default::default() }
}

fn node(name: &str, ip: &str) -> Object {
    Object::Node(Node { name: name.into(), ready: true, addresses: vec![ip.parse().unwrap()], ..Default::default() })
}

fn speaker(name: &str, owns: &[&str]) -> Object {
    let mut speaker = Speaker::new(name, Default::default());
    let owned = |ip: &&str| OwnedAddress { address: (*ip).to_owned(), ..Default::default() };
    speaker.status = Some(SpeakerStatus {
        addresses: owns.iter().map(owned).collect(),
        conditions: vec![Condition::new("Alive", true, "Running", "")],
        ..Default::default()
    });
    Object::Speaker(Box::new(speaker))
}

fn layer2(address: &str) -> serde_json::Value {
    json!({"address": address, "protocol": "layer2", "interface": "eth0"})
}

fn service_writes(written: &[(Tick, Write)]) -> Vec<&ServicePatch> {
    written.iter().filter_map(|(_, w)| if let Write::Service(p) = w { Some(p) } else { None }).collect()
}

fn said(server: &Server, name: &str, type_: &str) -> Option<String> {
    server.services[&key(name)].condition(type_).map(|c| format!("{} {}", c.status, c.reason))
}

#[test]
fn a_service_gets_address_label_and_condition_in_one_write_and_then_nothing_is_written() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_pool("p", layer2("10.0.0.0/24"));
    let mut c = Controller::start(&server, now);
    c.settle(&mut server, &mut now);
    server.put(service("s"));
    let written = c.settle(&mut server, &mut now);
    let first = service_writes(&written)[0];
    assert_eq!(first.ingress, Some(vec!["10.0.0.0".parse().unwrap()]));
    assert_eq!(first.pool_label, Some(Some("p".into())));
    assert_eq!(first.conditions[0].status, "True");
    let event = |w: &Write| matches!(w, Write::Event { reason: "AssignIP", message, .. } if message == "success to assign ip: 10.0.0.0");
    assert!(written.iter().any(|(_, w)| event(w)), "{written:#?}");
    assert_eq!(server.pools["p"].status.as_ref().unwrap().used["10.0.0.0"], "d/s");
    assert!(server.others.iter().any(|o| matches!(o, Object::Memberlist(k) if k[0].len() == 32)));
    // A restart finds everything as it should be.
    let mut again = Controller::start(&server, now);
    assert_eq!(again.settle(&mut server, &mut now), []);
}

#[test]
fn before_everything_was_read_nothing_is_written() {
    let mut planner = Planner::default();
    let mut server = Server::default();
    server.put_pool("p", layer2("10.0.0.0/24"));
    server.put(service("s"));
    server.log.iter().for_each(|e| planner.event(Tick::ZERO, e.clone()));
    planner.plan(Tick::ZERO);
    assert_eq!((planner.next(Tick::ZERO), planner.deadline()), (None, None));
    planner.event(Tick::ZERO, Event::Synced);
    planner.plan(Tick::ZERO);
    assert!(planner.next(Tick::ZERO).is_some());
}

#[test]
fn a_service_that_changes_while_it_is_written_is_decided_on_anew() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_pool("p", layer2("10.0.0.0/24"));
    server.put(service("s"));
    let mut c = Controller::start(&server, now);
    c.planner.plan(now);
    c.take_off(now, 9);
    server.change("s", |s| s.wanted_addresses = vec![Ok("10.0.0.77".parse().unwrap())]);
    c.settle(&mut server, &mut now);
    assert_eq!(server.services[&key("s")].ingress, ["10.0.0.77".parse::<IpAddr>().unwrap()]);
}

#[test]
fn what_the_api_server_does_not_take_is_written_after_a_pause_and_nothing_spins_meanwhile() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_pool("p", layer2("10.0.0.0/24"));
    let mut c = Controller::start(&server, now);
    c.settle(&mut server, &mut now);
    server.put(service("s"));
    c.read(&server, now, usize::MAX);
    for _ in 0..5 {
        let (ticket, write) = c.planner.next(now).unwrap();
        assert!(matches!(write, Write::Service(_)));
        c.planner.done(now, ticket, Err(WriteError::Unavailable("down".into())));
        c.planner.plan(now);
        assert_eq!(c.planner.next(now), None);
        let wake = c.planner.deadline().unwrap();
        assert!(wake > now && wake <= now + PAUSE.1);
        now = wake;
    }
    c.settle(&mut server, &mut now);
    assert_eq!(server.services[&key("s")].ingress.len(), 1);
}

#[test]
fn what_is_refused_is_told_once_and_tried_again_when_something_changes() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_pool("p", layer2("10.0.0.0/24"));
    let mut c = Controller::start(&server, now);
    c.settle(&mut server, &mut now);
    server.put(service("s"));
    c.read(&server, now, usize::MAX);
    let (ticket, _) = c.planner.next(now).unwrap();
    c.planner.done(now, ticket, Err(WriteError::Refused("forbidden".into())));
    c.planner.plan(now);
    let next: Vec<Write> = std::iter::from_fn(|| c.planner.next(now)).map(|(_, write)| write).collect();
    let told = |w: &&Write| matches!(w, Write::Event { reason: "UpdateServiceStatus", warning: true, .. });
    assert_eq!(next.iter().filter(told).count(), 1, "{next:#?}");
    assert!(!next.iter().any(|w| matches!(w, Write::Service(_))), "{next:#?}");
    server.change("s", |s| s.ports = vec![]);
    c.read(&server, now, usize::MAX);
    assert!(matches!(c.planner.next(now), Some((_, Write::Service(_)))));
}

#[test]
fn a_refused_service_is_tried_again_after_a_minute() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_pool("p", layer2("10.0.0.0/24"));
    let mut c = Controller::start(&server, now);
    c.settle(&mut server, &mut now);
    server.put(service("s"));
    c.read(&server, now, usize::MAX);
    let (ticket, _) = c.planner.next(now).unwrap();
    c.planner.done(now, ticket, Err(WriteError::Refused("forbidden".into())));
    let refused = now;
    c.settle(&mut server, &mut now);
    assert!(now >= refused + REFUSED);
    assert_eq!(server.services[&key("s")].ingress.len(), 1);
}

#[test]
fn a_pools_status_is_written_once_a_second_under_churn_and_the_last_one_always() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_pool("p", layer2("10.0.0.0/24"));
    let mut c = Controller::start(&server, now);
    c.settle(&mut server, &mut now);
    let start = now;
    let mut times = vec![];
    for n in 0..50 {
        server.put(service(&format!("s{n}")));
        for _ in 0..3 {
            c.read(&server, now, usize::MAX);
            c.take_off(now, 8);
            for (ticket, write) in std::mem::take(&mut c.flying) {
                if matches!(write, Write::PoolStatus { .. }) {
                    times.push(now);
                }
                let result = server.write(&write);
                c.planner.done(now, ticket, result);
            }
        }
        now = now + Duration::from_millis(100);
    }
    assert!((4..=6).contains(&times.len()), "{times:?}");
    assert!(times.windows(2).all(|w| w[1].since(w[0]) >= POOL), "{times:?} since {start:?}");
    c.settle(&mut server, &mut now);
    assert_eq!(server.pools["p"].status.as_ref().unwrap().usage, 50);
}

#[test]
fn announced_follows_what_speakers_say_and_names_the_owner() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_pool("p", layer2("10.0.0.0/24"));
    server.put_other(node("n1", "10.9.0.1"));
    server.put_other(node("n2", "10.9.0.2"));
    server.put_other(speaker("n1", &[]));
    server.put_other(speaker("n2", &[]));
    server.put(service("s"));
    let mut c = Controller::start(&server, now);
    c.read(&server, now, usize::MAX);
    c.take_off(now, 1);
    for (ticket, write) in std::mem::take(&mut c.flying) {
        let result = server.write(&write);
        c.planner.done(now, ticket, result);
    }
    // Nobody announces it for long: that is said, and so is that somebody does.
    c.settle(&mut server, &mut now);
    assert_eq!(said(&server, "s", keys::ANNOUNCED).as_deref(), Some("False NotYetAnnounced"));
    server.put_other(speaker("n1", &["10.0.0.0"]));
    c.settle(&mut server, &mut now);
    assert_eq!(said(&server, "s", keys::ANNOUNCED).as_deref(), Some("True Announced"));
    // The owner changes, with nobody in between for a while.
    server.put_other(speaker("n1", &[]));
    c.read(&server, now, usize::MAX);
    now = c.planner.deadline().unwrap();
    c.read(&server, now, usize::MAX);
    assert_eq!(c.planner.next(now), None);
    server.put_other(speaker("n2", &["10.0.0.0"]));
    let written = c.settle(&mut server, &mut now);
    assert_eq!(service_writes(&written).len(), 1, "that nobody announced it for a moment is not said");
    let s = &server.services[&key("s")];
    assert!(s.condition(keys::ANNOUNCED).is_some_and(|c| c.status == "True" && c.message.contains("node n2")));
}

#[test]
fn a_failover_of_many_addresses_writes_their_new_owners_a_few_at_a_time() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_pool("p", layer2("10.0.0.0/24"));
    let all: Vec<String> = (0..200).map(|n| format!("10.0.0.{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for (node_name, ip) in [("n1", "10.9.0.1"), ("n2", "10.9.0.2")] {
        server.put_other(node(node_name, ip));
    }
    server.put_other(speaker("n1", &all));
    (0..200).for_each(|n| server.put(service(&format!("s{n}"))));
    let mut c = Controller::start(&server, now);
    c.settle(&mut server, &mut now);
    server.put_other(speaker("n2", &all));
    server.put_other(speaker("n1", &[]));
    let from = now;
    let written = c.settle(&mut server, &mut now);
    let times: Vec<Tick> = written.iter().filter(|(_, w)| matches!(w, Write::Service(_))).map(|(at, _)| *at).collect();
    assert_eq!(times.len(), 200);
    let most = times.iter().map(|at| times.iter().filter(|t| *t >= at && t.since(*at) < LOOK).count()).max();
    assert!(most <= Some(OWNERS), "{most:?} within {LOOK:?}");
    assert!(now.since(from) >= 3 * LOOK);
    let moved = |s: &Service| s.condition(keys::ANNOUNCED).is_some_and(|c| c.message.contains("node n2"));
    assert!(server.services.values().all(moved));
}

#[test]
fn addresses_of_vip_get_ids_that_stay_and_what_is_in_the_way_is_said() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    let vip = |ids: &str| json!({"address": "10.0.0.0/24", "protocol": "vip", "interface": "eth0", "vrrp": {"routerId": ids}});
    server.put_pool("p", vip("7-8"));
    server.put_other(node("n1", "10.9.0.1"));
    server.put(service("a"));
    let mut c = Controller::start(&server, now);
    c.settle(&mut server, &mut now);
    let ids = |server: &Server| -> Vec<i64> {
        server.pools["p"].status.iter().flat_map(|s| &s.virtual_routers).map(|r| r.id).collect()
    };
    assert_eq!(ids(&server), [7]);
    // A node hears a stranger with it.
    let mut heard = speaker("n1", &[]);
    let Object::Speaker(of) = &mut heard else { unreachable!() };
    let warning =
        api::speaker::Warning { reason: "RouterIdTaken".into(), subject: Some("7".into()), ..Default::default() };
    of.status.as_mut().unwrap().warnings.push(warning);
    server.put_other(heard);
    c.settle(&mut server, &mut now);
    assert_eq!(ids(&server), [8]);
    // An edit that is not valid takes nothing away.
    server.put_pool("p", vip("8-7"));
    c.settle(&mut server, &mut now);
    assert_eq!(ids(&server), [8]);
    // Of both families, and one id is left for one of them.
    let both =
        json!({"address": "10.0.0.0/24,fd00::/120", "protocol": "vip", "interface": "eth0", "vrrp": {"routerId": "8"}});
    server.put_pool("p", both);
    server.put(Service { families: vec![Family::V6], ..service("six") });
    c.settle(&mut server, &mut now);
    let status = server.pools["p"].status.clone().unwrap();
    let healthy = status.conditions.iter().find(|c| c.type_ == crate::pools::HEALTHY).unwrap();
    assert!(healthy.message.contains("no id of VRRP is left for fd00::"), "{}", healthy.message);
    assert_eq!(ids(&server), [8]);
    // For another protocol there are none.
    server.put_pool("p", layer2("10.0.0.0/24,fd00::/120"));
    c.settle(&mut server, &mut now);
    assert_eq!(ids(&server), [] as [i64; 0]);
}

#[test]
fn a_rebalancing_is_asked_for_once() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_other(node("n1", "10.9.0.1"));
    let first = api::Ownership { epoch: 1, members: ["n1".to_owned()].into(), ..Default::default() };
    server.put_other(Object::Ownership(Ok(first)));
    let mut c = Controller::start(&server, now);
    c.settle(&mut server, &mut now);
    c.planner.rebalance(now, "daily-1".to_owned());
    let asks = |written: &[(Tick, Write)]| {
        let of = |w: &Write| matches!(w, Write::Ownership { write, .. } if write.rebalance == "daily-1");
        written.iter().filter(|(_, w)| of(w)).count()
    };
    assert_eq!(asks(&c.settle(&mut server, &mut now)), 1);
    server.put_other(node("n1", "10.9.0.1"));
    assert_eq!(asks(&c.settle(&mut server, &mut now)), 0);
}

#[test]
fn endpoints_that_have_not_been_read_are_not_missing_endpoints() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_pool("p", layer2("10.0.0.0/24"));
    server.put_other(node("n1", "10.9.0.1"));
    server.put(Service { local: true, ..service("s") });
    let mut c = Controller::start(&server, now);
    c.settle(&mut server, &mut now);
    assert_eq!(c.planner.new_needs(), Some(&[key("s")].into()));
    assert_eq!(said(&server, "s", keys::ANNOUNCED), None);
    server.log.push(Event::SlicesRead(key("s")));
    c.settle(&mut server, &mut now);
    assert_eq!(said(&server, "s", keys::ANNOUNCED).as_deref(), Some("False NoServingEndpoints"));
}

#[test]
fn a_service_that_is_not_served_any_more_loses_all_of_ours_in_one_write() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_pool("p", layer2("10.0.0.0/24"));
    server.put_other(node("n1", "10.9.0.1"));
    server.put_other(speaker("n1", &["10.0.0.0"]));
    server.put(service("s"));
    let mut c = Controller::start(&server, now);
    c.settle(&mut server, &mut now);
    assert_eq!(server.services[&key("s")].conditions.len(), 2);
    server.change("s", |s| s.served = false);
    let written = c.settle(&mut server, &mut now);
    assert_eq!(service_writes(&written).len(), 1);
    let s = &server.services[&key("s")];
    assert_eq!((s.ingress.len(), s.pool_label.as_deref(), s.conditions.len()), (0, None, 0));
    assert!(written.iter().any(|(_, w)| matches!(w, Write::Event { reason: "ReleaseIP", .. })));
}

#[test]
fn addresses_of_nodes_and_gateways_inside_a_pool_are_not_given_out() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_pool("p", layer2("10.0.0.1-10.0.0.3"));
    server.put_other(node("n1", "10.0.0.1"));
    let warning = api::speaker::Warning {
        reason: "GatewayInPool".into(),
        pool: Some("p".into()),
        subject: Some("10.0.0.2".into()),
        message: "10.0.0.2 is in the pool, but it is a gateway of this node".into(),
    };
    let mut speaker = Speaker::new("n1", Default::default());
    speaker.status = Some(SpeakerStatus { warnings: vec![warning], ..Default::default() });
    server.put_other(Object::Speaker(Box::new(speaker)));
    server.put(service("s"));
    let mut c = Controller::start(&server, now);
    c.settle(&mut server, &mut now);
    assert_eq!(server.services[&key("s")].ingress, ["10.0.0.3".parse::<IpAddr>().unwrap()]);
    let healthy =
        server.pools["p"].status.as_ref().unwrap().conditions.iter().find(|c| c.type_ == "Healthy").unwrap().clone();
    assert_eq!((healthy.status.as_str(), healthy.reason.as_str()), ("False", "HasGateway"));
    assert!(healthy.message.contains("10.0.0.1 is an address of node n1"), "{}", healthy.message);
}

/// A Speaker that owns some addresses, and found others with somebody else.
fn speaker_that_found(name: &str, owns: &[&str], taken: &[&str]) -> Object {
    let Object::Speaker(mut speaker) = speaker(name, owns) else { unreachable!() };
    let warning = |ip: &&str| api::speaker::Warning {
        reason: "AddressTaken".into(),
        pool: Some("p".into()),
        subject: Some((*ip).into()),
        message: format!("02:00:00:00:00:07 on eth0 has {ip}"),
    };
    speaker.status.as_mut().unwrap().warnings = taken.iter().map(warning).collect();
    Object::Speaker(speaker)
}

#[test]
fn an_address_that_a_stranger_has_is_skipped_before_it_was_announced_and_stays_afterwards() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_pool("p", layer2("10.0.0.1-10.0.0.9"));
    server.put_other(node("n1", "192.0.2.1"));
    let mut c = Controller::start(&server, now);
    let has = |server: &Server, name: &str| server.services[&key(name)].ingress.clone();
    let ip = |last: u8| vec![IpAddr::from([10, 0, 0, last])];
    server.put(service("new"));
    server.put(Service { wanted_addresses: vec![Ok(ip(5)[0])], ..service("asks") });
    c.settle(&mut server, &mut now);
    assert_eq!((has(&server, "new"), has(&server, "asks")), (ip(1), ip(5)));
    // It is not given to the next one either.
    server.put_other(speaker_that_found("n1", &[], &["10.0.0.1", "10.0.0.5"]));
    server.put(service("next"));
    let (written, start) = (c.settle(&mut server, &mut now), now);
    let others: BTreeSet<IpAddr> = ["new", "next"].iter().flat_map(|name| has(&server, name)).collect();
    assert_eq!(others, ["10.0.0.2", "10.0.0.3"].map(|ip| ip.parse().unwrap()).into());
    assert_eq!(has(&server, "asks"), ip(5), "the user asked for this one");
    let told = |(_, w): &(Tick, Write)| matches!(w, Write::Event { reason: "ReleaseIP", message, .. } if message.contains("n1"));
    assert!(written.iter().any(told), "{written:?}");
    // What was announced is known to clients: it stays, and what is wrong is said.
    server.put_other(speaker_that_found("n1", &["10.0.0.2", "10.0.0.3"], &["10.0.0.5"]));
    c.settle(&mut server, &mut now);
    server.put_other(speaker_that_found("n1", &[], &["10.0.0.2", "10.0.0.3", "10.0.0.5"]));
    c.settle(&mut server, &mut now);
    assert_eq!(["new", "next"].iter().flat_map(|name| has(&server, name)).collect::<BTreeSet<_>>(), others);
    assert!(said(&server, "new", keys::ANNOUNCED).is_some_and(|said| said.contains("AddressTaken")));
    // Later the first one may be free again: it is tried.
    assert!(now.since(start) >= Duration::from_secs(600), "settling waits for all that is due");
    server.put(service("later"));
    c.settle(&mut server, &mut now);
    assert_eq!(has(&server, "later"), ip(1));
}

#[test]
fn where_something_answers_for_every_address_a_service_does_not_go_through_all_of_them() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_pool("p", layer2("10.0.0.1-10.0.0.9"));
    server.put_other(node("n1", "192.0.2.1"));
    let mut c = Controller::start(&server, now);
    server.put(service("s"));
    c.settle(&mut server, &mut now);
    let mut had = vec![];
    for _ in 0..6 {
        had.push(server.services[&key("s")].ingress[0]);
        server.put_other(speaker_that_found("n1", &[], &[&had[had.len() - 1].to_string()]));
        c.settle(&mut server, &mut now);
    }
    had.dedup();
    assert_eq!(had.len(), 3, "{had:?}");
}

#[test]
fn a_live_cluster_of_openelb_is_taken_over_without_an_address_moving() {
    // D15, D37: what OpenELB left is honoured, and its finalizers are removed, also where the label was preset.
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_pool("p", layer2("10.0.0.0/24"));
    let eip = server.pools.get_mut("p").unwrap();
    eip.metadata.finalizers = Some(vec![keys::LEGACY_POOL_FINALIZER.to_owned()]);
    let used = [("10.0.0.9", "d/a"), ("10.0.0.8", "d/b;d/c")].map(|(ip, s)| (ip.to_owned(), s.to_owned()));
    eip.status = Some(EipStatus { used: used.into(), usage: 2, pool_size: 256, ..Default::default() });
    let ip = |text: &str| vec![text.parse::<IpAddr>().unwrap()];
    let label = Some("p".to_owned());
    server.put(Service { ingress: ip("10.0.0.9"), pool_label: label.clone(), legacy_finalizer: true, ..service("a") });
    let shares = Service { wanted_addresses: vec![Ok(ip("10.0.0.8")[0])], legacy_finalizer: true, ..service("b") };
    server.put(Service { ingress: ip("10.0.0.8"), ..shares.clone() });
    // The record is all that is left of this one's address: somebody wiped its status.
    server.put(Service { key: key("c"), pool_label: label, ..shares });
    server.put(service("new"));
    let mut router = api::BgpPeer::new("tor", Default::default());
    router.metadata.finalizers = Some(vec![keys::LEGACY_BGP_FINALIZER.to_owned()]);
    server.put_other(Object::BgpPeer(Box::new(router)));
    let mut c = Controller::start(&server, now);
    let written = c.settle(&mut server, &mut now);
    let of_router = Write::Finalizer { of: ObjectRef::BgpPeer("tor".into()) };
    assert_eq!(written.iter().filter(|(_, w)| *w == of_router).count(), 1);
    for (name, want) in [("a", "10.0.0.9"), ("b", "10.0.0.8"), ("c", "10.0.0.8"), ("new", "10.0.0.0")] {
        let s = &server.services[&key(name)];
        assert_eq!(s.ingress, ip(want), "{name}");
        assert!(!s.legacy_finalizer, "{name}");
        assert_eq!(s.pool_label.as_deref(), Some("p"), "{name}");
    }
    assert_eq!(server.pools["p"].metadata.finalizers, None);
    assert_eq!(server.pools["p"].status.as_ref().unwrap().used["10.0.0.8"], "d/b;d/c");
}

#[test]
fn whatever_fails_and_whenever_the_controller_dies_no_address_is_given_twice_and_none_is_lost() {
    for seed in 0..150 {
        run_at_random(seed);
    }
}

/// Services come, go and change; writes fail, or land although no answer comes; the watch lags; the controller dies
/// between any two steps, with writes still on their way that land later.
fn run_at_random(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    let pool = |address: &str| json!({"address": address, "sharing": "None"});
    server.put_pool("p", pool("10.0.0.0-10.0.0.11"));
    let mut c = Controller::start(&server, now);
    for _ in 0..600 {
        now = now + Duration::from_millis(rng.u64(0..200));
        let name = format!("s{}", rng.u8(0..14));
        let exists = server.services.contains_key(&key(&name));
        match rng.u8(0..20) {
            0..2 if !exists => server.put(service(&name)),
            2 if exists => server.delete(&name),
            3 if exists => server.change(&name, |s| s.served ^= true),
            4 if exists => {
                let ip = Family::V4.address(u128::from(0x0a00_0000u32) + rng.u128(0..14));
                server.change(&name, |s| s.wanted_addresses = vec![Ok(ip)]);
            }
            5 if exists => server.change(&name, |s| s.wanted_addresses = vec![]),
            6 => server.put_pool("p", pool(if rng.bool() { "10.0.0.0-10.0.0.11" } else { "10.0.0.0-10.0.0.13" })),
            7 if rng.u8(0..4) == 0 => {
                // What is on its way lands or not; only then does the next leader read (the lease sees to that).
                for (_, write) in std::mem::take(&mut c.flying) {
                    if rng.bool() {
                        let _ = server.write(&write);
                    }
                }
                c = Controller::start(&server, now);
            }
            8..14 => c.read(&server, now, rng.usize(0..4)),
            14..17 => c.take_off(now, 4),
            _ if !c.flying.is_empty() => {
                let (ticket, write) = c.flying.swap_remove(rng.usize(0..c.flying.len()));
                let result = match rng.u8(0..10) {
                    0 => Err(WriteError::Unavailable("lost".into())),
                    1 => server.write(&write).and(Err(WriteError::Unavailable("no answer".into()))),
                    _ => server.write(&write),
                };
                c.planner.done(now, ticket, result);
            }
            _ => {}
        }
        no_address_twice(&server, seed);
    }
    c.settle(&mut server, &mut now);
    no_address_twice(&server, seed);
    let free = 14 - server.services.values().flat_map(|s| &s.ingress).collect::<BTreeSet<_>>().len();
    for s in server.services.values().filter(|s| s.served && s.ingress.is_empty() && s.wanted_addresses.is_empty()) {
        assert!(free <= 2, "seed {seed}: {} waits while addresses are free: {s:?}", s.key);
    }
    let mut again = Controller::start(&server, now);
    let more = again.settle(&mut server, &mut now);
    assert_eq!(service_writes(&more), Vec::<&ServicePatch>::new(), "seed {seed}: a restart changes something");
}

/// The pool lets nobody share.
fn no_address_twice(server: &Server, seed: u64) {
    let mut holders: BTreeMap<IpAddr, &Service> = BTreeMap::new();
    for service in server.services.values() {
        for ip in &service.ingress {
            if let Some(other) = holders.insert(*ip, service) {
                panic!("seed {seed}: {ip} was given to {other:#?} and {service:#?}");
            }
        }
    }
}

#[test]
fn decisions_are_made_a_few_ahead_and_still_all_of_them() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_pool("p", layer2("10.0.0.0/16"));
    for n in 0..3 * AHEAD {
        server.put(service(&format!("s{n:05}")));
    }
    let mut c = Controller::start(&server, now);
    c.planner.plan(now);
    assert!(c.planner.decisions.len() <= AHEAD, "{}", c.planner.decisions.len());
    c.settle(&mut server, &mut now);
    let given: BTreeSet<_> = server.services.values().flat_map(|s| s.ingress.clone()).collect();
    assert_eq!(given.len(), 3 * AHEAD);
    assert_eq!(server.pools["p"].status.as_ref().unwrap().usage, 3 * AHEAD as i64);
}

#[test]
fn an_address_does_not_wait_for_events_and_announcements() {
    let (mut server, mut now) = (Server::default(), Tick::ZERO);
    server.put_pool("p", layer2("10.0.0.0/24"));
    let mut c = Controller::start(&server, now);
    c.settle(&mut server, &mut now);
    for n in 0..50 {
        server.put(service(&format!("s{n}")));
    }
    c.read(&server, now, usize::MAX);
    // All are written, and now fifty events want to be.
    while c.planner.events.len() < 50 {
        let (ticket, write) = c.planner.next(now).unwrap();
        let result = server.write(&write);
        c.planner.done(now, ticket, result);
    }
    c.read(&server, now, usize::MAX);
    c.take_off(now, 32);
    assert!(c.flying.iter().filter(|(t, _)| t.is_low()).count() <= LOW);
    assert!(c.flying.len() < 32);
    server.put(service("late"));
    c.read(&server, now, usize::MAX);
    assert!(matches!(c.planner.next(now), Some((_, Write::Service(p))) if p.key == key("late")));
}
