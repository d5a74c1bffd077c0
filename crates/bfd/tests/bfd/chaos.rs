//! Two sessions of ours, by seed: they come up, stay up while no more is lost than the multiplier bears, notice a cut
//! within the detection time, and survive many faults.

use super::simulator::Sim;
use super::*;

/// Runs from this seed only: `OXELB_SEED=7 cargo test -p oxelb-bfd`.
const SEED: &str = "OXELB_SEED";
const SEEDS: u64 = 200;
/// The longest that a packet takes.
const DELIVERY: Duration = Duration::from_millis(2);
/// Long enough for any two to come up: each side a second to be heard, and answers.
const RISE: Duration = Duration::from_millis(2100);

fn for_every_seed(test: impl Fn(u64) -> Result<(), String> + std::panic::RefUnwindSafe) {
    let only: Option<u64> = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let run = std::panic::catch_unwind(|| test(seed)).unwrap_or_else(|_| Err("see the panic above".to_owned()));
        if let Err(error) = run {
            panic!("seed {seed}: {error}\nreplay it: {SEED}={seed} cargo test -p oxelb-bfd");
        }
    }
}

fn any_config(rng: &mut fastrand::Rng, seed: u64) -> Config {
    let quick = [50, 100, 300, 1000];
    let (tx, rx) = (quick[rng.usize(0..4)], quick[rng.usize(0..4)]);
    let multiplier = times(rng.u8(3..=6));
    let method =
        [None, Some(Method::Password), Some(Method::KeyedSha1), Some(Method::MeticulousSha1)][seed as usize % 4];
    config(|s| {
        (s.transmit, s.receive, s.multiplier) = (interval(tx), interval(rx), multiplier);
        s.authentication = method.map(auth);
    })
}

fn two(seed: u64) -> Sim {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xb1fd);
    Sim::new(seed, [any_config(&mut rng, seed), any_config(&mut rng, seed)])
}

fn risen(seed: u64) -> Result<Sim, String> {
    let mut sim = two(seed);
    sim.run(RISE);
    sim.expect_up()?;
    // Until the polls of both are over.
    sim.run(ms(2000));
    Ok(sim)
}

/// What RFC 5880 §6.8.4 makes of the two configurations, as side `n` counts it.
fn detection(sim: &Sim, n: usize) -> Duration {
    let (us, them) = (&sim.sides[n].config, &sim.sides[1 - n].config);
    us.receive.duration().max(them.transmit.duration()) * u32::from(them.multiplier.get())
}

#[test]
fn without_loss_they_come_up_and_stay_so() {
    for_every_seed(|seed| {
        let mut sim = risen(seed)?;
        for n in 0..2 {
            assert_eq!(sim.sides[n].session.detection_time(), Some(detection(&sim, n)));
        }
        sim.run_while(ms(120_000), Sim::both_up)
    });
}

#[test]
fn with_two_fewer_lost_in_a_row_than_the_multiplier_they_stay_up() {
    for_every_seed(|seed| {
        let mut sim = risen(seed)?;
        sim.loss = 60;
        let least = sim.sides.iter().map(|s| u32::from(s.config.multiplier.get())).min().unwrap();
        sim.most_lost = least - 2;
        sim.run_while(ms(120_000), Sim::both_up)
    });
}

#[test]
fn packets_that_overtake_each_other_take_nobody_down() {
    for_every_seed(|seed| {
        if seed % 4 == 3 {
            return Ok(()); // what is overtaken is a replay there
        }
        let mut sim = risen(seed)?;
        (sim.delay, sim.overtakes) = (0..=100_000, true); // up to two of the shortest intervals
        sim.loss = 5;
        sim.most_lost = 0;
        sim.run_while(ms(60_000), Sim::both_up)
    });
}

#[test]
fn silence_is_noticed_when_the_detection_time_is_over_and_not_before() {
    for_every_seed(|seed| {
        let mut sim = risen(seed)?;
        let deaf = (seed / 4 % 2) as usize;
        let wait = ms(sim.rng.u64(0..3000));
        sim.run(wait);
        let cut = sim.now;
        sim.cut[1 - deaf] = true;
        let expected = detection(&sim, deaf);
        sim.run(expected + DELIVERY);
        let found = sim.sides[deaf].log.iter().find(|(_, e)| matches!(e, Effect::Down { .. })).cloned();
        let Some((when, effect)) = found else { return Err(sim.story("it was not noticed")) };
        assert_eq!(effect, down(Diagnostic::EXPIRED, Cause::Silence)[0]);
        assert_eq!(when, sim.sides[deaf].last_arrival + expected, "{}", sim.story("too early or too late"));
        assert!(when <= cut + DELIVERY + expected);
        // The other one still hears, and is told.
        sim.run(DELIVERY);
        let other = &sim.sides[1 - deaf].log;
        let told = down(Diagnostic::NEIGHBOR, Cause::Peer(Diagnostic::EXPIRED));
        assert_eq!(other.iter().rev().find(|(_, e)| matches!(e, Effect::Down { .. })).map(|(_, e)| e), told.first());
        sim.cut = [false; 2];
        sim.run(RISE * 4);
        sim.expect_up()
    });
}

#[test]
fn a_pause_shorter_than_the_others_patience_takes_nobody_down() {
    for_every_seed(|seed| {
        let mut sim = risen(seed)?;
        for _ in 0..20 {
            let n = sim.rng.usize(0..2);
            // One interval may have passed already, and one more until the next packet.
            let other = detection(&sim, 1 - n);
            let interval = other / u32::from(sim.sides[n].config.multiplier.get());
            let time = (other - interval - DELIVERY).mul_f64(sim.rng.f64());
            sim.pause(n, time);
            sim.run_while(time + interval * 2, Sim::both_up)?;
        }
        Ok(())
    });
}

#[test]
fn other_intervals_are_agreed_upon_without_a_flap_also_when_packets_are_lost() {
    for_every_seed(|seed| {
        let mut sim = risen(seed)?;
        let mut rng = fastrand::Rng::with_seed(seed);
        sim.loss = 40;
        sim.most_lost = 1;
        for _ in 0..30 {
            let n = rng.usize(0..2);
            let new = any_config(&mut rng, seed);
            // The multiplier is not negotiated: a lower one takes effect with the first packet that says so.
            let mut settings = Settings::from(new);
            settings.multiplier = sim.sides[n].config.multiplier;
            sim.sides[n].config = Config::new(settings).unwrap();
            let input = Input::Configure(Box::new(sim.sides[n].config.clone()));
            sim.handle(n, input);
            let wait = ms(rng.u64(0..4000));
            sim.run_while(wait, Sim::both_up)?;
        }
        (sim.loss, sim.most_lost) = (0, 0);
        sim.run_while(ms(10_000), Sim::both_up)?;
        for n in 0..2 {
            assert_eq!(sim.sides[n].session.detection_time(), Some(detection(&sim, n)), "{}", sim.story("agreed"));
            let (us, them) = (&sim.sides[n].config, &sim.sides[1 - n].config);
            let agreed = us.transmit.duration().max(them.receive.duration());
            assert_eq!(sim.sides[n].session.transmit_interval(), agreed);
        }
        Ok(())
    });
}

#[test]
fn a_planned_restart_is_never_taken_for_a_broken_path() {
    for_every_seed(|seed| {
        let mut sim = risen(seed)?;
        // All but one of the packets that say AdminDown may be lost.
        sim.loss = 50;
        sim.most_lost = u32::from(sim.sides[0].config.multiplier.get()) - 2;
        sim.handle(0, Input::AdminDown);
        let patience = detection(&sim, 1);
        sim.run(patience + DELIVERY);
        let told = sim.sides[1].log.iter().find(|(_, e)| matches!(e, Effect::Down { .. })).map(|(_, e)| e.clone());
        assert_eq!(told, down(Diagnostic::NEIGHBOR, Cause::PeerAdmin).pop(), "{}", sim.story("told"));
        sim.loss = 0;
        sim.run(ms(1100));
        assert!(sim.sides[0].session.peer_knows());
        sim.restart(0);
        // Numbers that begin anew are only taken after twice the detection time (RFC 5880 §6.8.1).
        let forgotten = if seed % 4 > 1 { ms(1000) * 6 * 2 } else { Duration::ZERO };
        sim.run(forgotten + RISE * 2);
        sim.expect_up()
    });
}

#[test]
fn when_faults_stop_both_come_up_and_stay_so() {
    for_every_seed(|seed| {
        let mut sim = two(seed);
        for _ in 0..60 {
            let n = sim.rng.usize(0..2);
            match sim.rng.u8(0..9) {
                0 => (sim.loss, sim.most_lost) = (sim.rng.u64(0..90), u32::MAX),
                1 => sim.loss = 0,
                2 => sim.restart(n),
                3 => {
                    let time = ms(sim.rng.u64(0..5000));
                    sim.pause(n, time);
                }
                4 => {
                    let up = sim.rng.bool();
                    sim.handle(n, Input::Link(up));
                }
                5 => sim.cut = [sim.rng.bool(), sim.rng.bool()],
                6 => sim.handle(n, Input::AdminDown),
                7 => sim.handle(n, Input::AdminUp),
                _ => {
                    let mut rng = sim.rng.fork();
                    sim.sides[n].config = any_config(&mut rng, seed);
                    let input = Input::Configure(Box::new(sim.sides[n].config.clone()));
                    sim.handle(n, input);
                }
            }
            sim.overtakes = sim.rng.bool();
            sim.delay = if sim.rng.bool() { 20..=2000 } else { 0..=60_000 };
            let wait = ms(sim.rng.u64(0..3000));
            sim.run(wait);
        }
        (sim.loss, sim.delay, sim.overtakes, sim.cut) = (0, 20..=2000, false, [false; 2]);
        sim.run(ms(5000)); // the longest pause
        for n in 0..2 {
            sim.handle(n, Input::Link(true));
            sim.handle(n, Input::AdminUp);
        }
        // The longest detection time, twice where numbers are known, and the rise.
        sim.run(ms(6000) * 2 + RISE * 2);
        sim.expect_up()?;
        let before = [sim.downs(0), sim.downs(1)];
        sim.run_while(ms(60_000), Sim::both_up)?;
        assert_eq!(before, [sim.downs(0), sim.downs(1)]);
        Ok(())
    });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut sim = two(3);
        sim.loss = 40;
        sim.run(ms(60_000));
        sim.sides.map(|s| s.log)
    };
    assert_eq!(run(), run());
}
