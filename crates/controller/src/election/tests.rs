use super::*;
use proptest::prelude::*;

fn timing() -> Timing {
    Timing::default()
}

fn at(s: u64) -> Tick {
    Tick::from_millis(s * 1000)
}

/// An API server's Lease with its version.
#[derive(Default)]
struct Server(Option<LeaseSpec>, u64);

impl Server {
    /// A replica reads, decides and writes without anybody in between.
    fn turn(&mut self, replica: &mut Election, now: Tick) -> bool {
        match replica.read(now, Timestamp::UNIX_EPOCH, self.0.as_ref()) {
            Some(spec) => {
                self.0 = Some(spec.clone());
                self.1 += 1;
                replica.wrote(now, now, spec);
                true
            }
            None => false,
        }
    }
}

#[test]
fn the_first_takes_a_lease_that_is_not_there_and_keeps_it() {
    let (mut server, mut a) = (Server::default(), Election::new("a".into(), timing()));
    assert!(server.turn(&mut a, at(0)));
    assert_eq!(a.until(), Some(at(10)));
    assert!(server.turn(&mut a, at(8)));
    assert_eq!(a.until(), Some(at(18)));
    assert_eq!(server.0.unwrap().lease_transitions, Some(0));
}

#[test]
fn another_waits_until_it_has_seen_no_renewal_for_the_promised_time() {
    let mut server = Server::default();
    let (mut a, mut b) = (Election::new("a".into(), timing()), Election::new("b".into(), timing()));
    server.turn(&mut a, at(0));
    // b looks for the first time long after the last renewal: how long ago that was by the wall clock does not count.
    assert!(!server.turn(&mut b, at(100)));
    assert!(!server.turn(&mut b, at(114)));
    assert!(server.turn(&mut b, at(115)));
    let spec = server.0.unwrap();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("b"), Some(1)));
}

#[test]
fn a_renewal_starts_the_wait_anew() {
    let mut server = Server::default();
    let (mut a, mut b) = (Election::new("a".into(), timing()), Election::new("b".into(), timing()));
    server.turn(&mut a, at(0));
    assert!(!server.turn(&mut b, at(1)));
    if let Some(spec) = a.read(at(9), Timestamp::from_second(9).unwrap(), server.0.as_ref()) {
        server.0 = Some(spec);
    }
    assert!(!server.turn(&mut b, at(16)));
    assert!(!server.turn(&mut b, at(30)));
    assert!(server.turn(&mut b, at(31)));
}

#[test]
fn a_released_lease_is_taken_at_once() {
    let mut server = Server::default();
    let (mut a, mut b) = (Election::new("a".into(), timing()), Election::new("b".into(), timing()));
    server.turn(&mut a, at(0));
    assert!(!server.turn(&mut b, at(1)));
    server.0 = Some(a.release(Timestamp::UNIX_EPOCH));
    assert_eq!(a.until(), None);
    assert!(server.turn(&mut b, at(1)));
}

#[test]
fn a_leader_that_sees_another_holder_leads_no_more() {
    let mut server = Server::default();
    let (mut a, mut b) = (Election::new("a".into(), timing()), Election::new("b".into(), timing()));
    server.turn(&mut a, at(0));
    server.turn(&mut b, at(0));
    server.turn(&mut b, at(15));
    assert!(!server.turn(&mut a, at(16)));
    assert_eq!(a.until(), None);
}

#[test]
fn the_promise_of_the_holder_counts_not_the_flags_of_who_waits() {
    let long = Timing { lease: Duration::from_secs(60), renew: Duration::from_secs(40), retry: Duration::from_secs(2) };
    let (mut server, mut a) = (Server::default(), Election::new("a".into(), long));
    let mut b = Election::new("b".into(), timing());
    server.turn(&mut a, at(0));
    assert!(!server.turn(&mut b, at(1)));
    assert!(!server.turn(&mut b, at(60)));
    assert!(server.turn(&mut b, at(61)));
}

#[test]
fn a_promise_in_whole_seconds_is_never_shorter_than_the_truth() {
    let ms = Duration::from_millis;
    let short = Timing { lease: ms(1500), renew: ms(1000), retry: ms(200) };
    assert_eq!(short.check(), Ok(()));
    let spec = Election::new("a".into(), short).read(at(0), Timestamp::UNIX_EPOCH, None).unwrap();
    assert_eq!(spec.lease_duration_seconds, Some(2));
    assert_eq!(short.write_timeout(), ms(500));
    assert!(Timing { renew: ms(1500), ..short }.check().is_err());
    assert!(Timing { retry: ms(1000), ..short }.check().is_err());
    assert!(Timing { retry: ms(0), ..short }.check().is_err());
}

/// Something that a replica does, `after` milliseconds after what happened before.
#[derive(Debug, Clone)]
enum Step {
    /// Reads the Lease; the claim that follows is written later, or never.
    Read(usize),
    /// The claim arrives at the server.
    Write(usize),
    /// It stops and releases.
    Release(usize),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        8 => (0usize..3).prop_map(Step::Read),
        8 => (0usize..3).prop_map(Step::Write),
        1 => (0usize..3).prop_map(Step::Release),
    ];
    proptest::collection::vec((0u64..6000, step), 0..200)
}

proptest! {
    /// Whatever is read, written late or lost, and whatever the clocks say as long as they run at one rate.
    #[test]
    fn never_do_two_replicas_lead_at_once(steps in steps(), offsets in proptest::array::uniform3(0u64..1_000_000)) {
        let mut server = Server::default();
        let mut replicas: Vec<Election> = ["a", "b", "c"].map(|n| Election::new(n.into(), timing())).into();
        let mut claims: Vec<Option<(LeaseSpec, u64, u64)>> = vec![None; 3];
        let mut now = 0;
        for (n, (after, step)) in steps.into_iter().enumerate() {
            now += after;
            let local = |r: usize, ms: u64| Tick::from_millis(ms + offsets[r]);
            let wall = Timestamp::from_second(n as i64).unwrap();
            match step {
                Step::Read(r) => {
                    let claim = replicas[r].read(local(r, now), wall, server.0.as_ref());
                    claims[r] = claim.map(|spec| (spec, server.1, now));
                }
                Step::Write(r) => if let Some((spec, version, asked)) = claims[r].take() && version == server.1 {
                    server.0 = Some(spec.clone());
                    server.1 += 1;
                    replicas[r].wrote(local(r, asked), local(r, now), spec);
                },
                Step::Release(r) => if replicas[r].until().is_some_and(|u| local(r, now) < u) {
                    server.0 = Some(replicas[r].release(wall));
                    server.1 += 1;
                },
            }
            let leaders = (0..3).filter(|r| replicas[*r].until().is_some_and(|u| local(*r, now) < u)).count();
            prop_assert!(leaders <= 1, "{leaders} lead at {now} ms");
        }
    }
}
