//! Controllers against a real kube-apiserver and etcd, with the rights that deploy/openelb.yaml gives them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it says as a controller goes to the lab's logs")]

mod bad_input;
mod life;
mod replicas;
mod webhook;
mod world;

use lab::suite::{self, Test};
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(controller) = world::asked_to_be_a_controller() {
        return controller;
    }
    let tests: Vec<Test> = vec![
        ("a_service_gets_an_address_keeps_it_and_gives_it_back", life::walk_through),
        ("a_live_cluster_of_openelb_is_taken_over_and_cleaned", life::take_over),
        ("an_api_server_that_was_away_is_caught_up_with", life::api_restart),
        ("bad_input_is_explained_and_disturbs_nothing_else", bad_input::explained),
        ("the_webhook_refuses_what_would_harm_and_says_why", webhook::refuses),
        ("the_webhooks_certificates_are_made_and_made_anew", webhook::certificates),
        ("the_leader_is_killed_and_no_address_is_given_twice", replicas::killed),
        ("a_leader_that_stops_lets_another_lead_at_once", replicas::handed_over),
    ];
    suite::main(tests)
}
