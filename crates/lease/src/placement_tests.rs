use super::*;
use proptest::prelude::*;

fn ip(n: usize) -> IpAddr {
    IpAddr::from([10, 0, (n >> 8) as u8, n as u8])
}

fn names(n: usize) -> Vec<Node> {
    (0..n).map(|n| format!("node-{n}")).collect()
}

fn loads<'a>(placed: &BTreeMap<IpAddr, &'a str>, nodes: &'a [Node]) -> BTreeMap<&'a str, usize> {
    let mut loads: BTreeMap<&str, usize> = nodes.iter().map(|n| (n.as_str(), 0)).collect();
    placed.values().for_each(|n| *loads.entry(n).or_default() += 1);
    loads
}

#[test]
fn the_logarithm_is_right_to_six_digits() {
    for n in [1, 2, 3, 1 << 20, u64::MAX / 3, u64::MAX / 2 + 1, u64::MAX] {
        let exact = 64.0 - (n as f64).log2();
        assert!((minus_log2(n) as f64 / 2f64.powi(32) - exact).abs() < 1e-6, "{n}");
    }
}

fn all(nodes: &[Node]) -> impl Iterator<Item = &str> {
    nodes.iter().map(String::as_str)
}

#[test]
fn a_weight_is_a_share() {
    let nodes = names(4);
    let weights = [("node-0".to_owned(), 300)].into();
    let seats = Seats::new(&nodes, &weights);
    let group = seats.group(all(&nodes));
    let first = (0..6000).filter(|n| seats.rank(ip(*n), &group, "node-0") == 0).count();
    assert!((2850..3150).contains(&first), "half of them: {first}");
    let unclaimed: Vec<_> = (0..600).map(|n| (ip(n), 0)).collect();
    let placed = seats.place(&unclaimed, &[group], &BTreeMap::new());
    assert!((270..=375).contains(&loads(&placed, &nodes)["node-0"]), "{:?}", loads(&placed, &nodes));
}

#[test]
fn who_is_lost_moves_only_what_it_had() {
    let nodes = names(5);
    let seats = Seats::new(&nodes, &BTreeMap::new());
    let unclaimed: Vec<_> = (0..300).map(|n| (ip(n), 0)).collect();
    let before = seats.place(&unclaimed, &[seats.group(all(&nodes))], &BTreeMap::new());
    let orphans: Vec<_> = before.iter().filter(|(_, n)| **n == "node-2").map(|(a, _)| (*a, 0)).collect();
    let mut left = loads(&before, &nodes);
    left.remove("node-2");
    let rest: Vec<Node> = nodes.iter().filter(|n| *n != "node-2").cloned().collect();
    let after = seats.place(&orphans, &[seats.group(all(&rest))], &left);
    after.values().for_each(|n| *left.get_mut(n).unwrap() += 1);
    assert!(left.values().all(|n| *n <= 94), "{left:?}");
}

proptest! {
    #[test]
    fn nobody_owns_more_than_a_quarter_above_the_mean(nodes in 1..40usize, addresses in 0..400usize) {
        let nodes = names(nodes);
        let seats = Seats::new(&nodes, &BTreeMap::new());
        let unclaimed: Vec<_> = (0..addresses).map(|n| (ip(n), 0)).collect();
        let placed = seats.place(&unclaimed, &[seats.group(all(&nodes))], &BTreeMap::new());
        prop_assert_eq!(placed.len(), addresses);
        let most = (5 * addresses).div_ceil(4 * nodes.len());
        prop_assert!(loads(&placed, &nodes).values().all(|n| *n <= most));
    }

    #[test]
    fn the_order_does_not_depend_on_how_nodes_are_listed(mut list in prop::collection::vec("[a-z]{1,5}", 1..20)) {
        let seats = Seats::new(&list, &BTreeMap::new());
        let one: Vec<usize> = list.iter().map(|n| seats.rank(ip(1), &seats.group(all(&list)), n)).collect();
        list.reverse();
        let mut two: Vec<usize> = list.iter().map(|n| seats.rank(ip(1), &seats.group(all(&list)), n)).collect();
        two.reverse();
        prop_assert_eq!(one, two);
        let first = list.iter().min_by_key(|n| seats.rank(ip(1), &seats.group(all(&list)), n)).unwrap();
        prop_assert!(list.iter().all(|n| n == first || seats.before(ip(1), first, n)));
    }
}
