//! Control packets: what is read is what was written, and nothing that lies is read.

use super::*;
use bfd::packet::Section;
use proptest::prelude::*;

fn any_control() -> impl Strategy<Value = Control> {
    let section =
        (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..=229)).prop_map(|(kind, body)| Section { kind, body });
    let flags = any::<[bool; 4]>();
    let words = (1u32.., any::<u32>(), any::<[u32; 3]>());
    (0u8..32, 0usize..4, flags, 1u8.., words, proptest::option::of(section)).prop_map(
        |(diagnostic, state, [poll, is_final, independent, demand], mult, (my, your, [tx, rx, echo]), section)| {
            let state = [State::AdminDown, State::Down, State::Init, State::Up][state];
            let your = if matches!(state, State::Init | State::Up) { your.max(1) } else { your };
            Control {
                diagnostic: Diagnostic::try_from(diagnostic).unwrap(),
                state,
                poll,
                is_final,
                independent,
                demand,
                multiplier: times(mult),
                my: name(my),
                your: Discriminator::new(your),
                desired_min_tx: tx,
                required_min_rx: rx,
                required_min_echo_rx: echo,
                section,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_written_is_read(control in any_control(), padding in proptest::collection::vec(any::<u8>(), 0..9)) {
        let mut message = control.emit();
        prop_assert_eq!(Control::parse(&message), Ok(control.clone()));
        // RFC 5880 §6.8.6 discards what is shorter than it says, not what is longer.
        message.extend(padding);
        prop_assert_eq!(Control::parse(&message), Ok(control));
    }

    #[test]
    fn what_is_cut_anywhere_is_refused(control in any_control(), cut in any::<prop::sample::Index>()) {
        let message = control.emit();
        prop_assert_eq!(Control::parse(&message[..cut.index(message.len())]), Err(Refusal::Length));
    }

    #[test]
    fn a_length_that_lies_is_refused_or_cuts(control in any_control(), length: u8) {
        let mut message = control.emit();
        let real = message.len();
        message[3] = length;
        let read = Control::parse(&message);
        match usize::from(length) {
            l if l == real => prop_assert_eq!(read, Ok(control)),
            l if l > real || l < 24 => prop_assert_eq!(read, Err(Refusal::Length)),
            l if l < 26 => prop_assert_eq!(read, Err(Refusal::Length)), // it has the A bit, else 24 were real
            _ => prop_assert_eq!(read, Err(Refusal::AuthLength)),
        }
    }

    #[test]
    fn any_octets_are_read_or_refused_and_what_is_read_is_written_alike(
        mut message in proptest::collection::vec(any::<u8>(), 0..80), mend: bool
    ) {
        if mend && message.len() > 4 {
            message[0] = message[0] & 0x1f | 0x20;
            message[1] &= 0xfa;
            message[3] = message.len() as u8;
        }
        if let Ok(control) = Control::parse(&message) {
            let written = control.emit();
            // All but the three reserved meanings: what follows a packet without a section is not kept.
            let kept = written.len();
            prop_assert_eq!(&written[4..], &message[4..kept]);
            prop_assert_eq!(written[..3].to_vec(), message[..3].to_vec());
        }
    }
}

#[test]
fn each_bit_is_where_the_rfc_has_it() {
    let mut control = peer(State::Init);
    control.diagnostic = Diagnostic::EXPIRED;
    assert_eq!(control.emit()[..4], [0x21, 0x80, 3, 24]);
    (control.poll, control.independent) = (true, true);
    assert_eq!(control.emit()[1], 0b10_101000);
    (control.is_final, control.demand) = (true, true);
    assert_eq!(control.emit()[1], 0b10_111010);
    control.section = Some(Section { kind: 1, body: vec![7, b'x'] });
    assert_eq!(control.emit()[1], 0b10_111110);
    assert_eq!(
        control.emit()[3..],
        [28, 0, 0, 0, 11, 0, 0, 0, 10, 0, 0x0f, 0x42, 0x40, 0, 0x04, 0x93, 0xe0, 0, 0, 0, 0, 1, 4, 7, b'x']
    );
}
