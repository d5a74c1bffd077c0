//! The words of a policy file (compat §5.6). What is known and not supported is refused by name; what is not known is
//! refused by the parser.

use super::InvalidPolicy;
use serde::Deserialize;

/// Declares structs of options with the names of the file.
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
        pub(super) struct $name { $(pub $field: $type),* }
    )*};
}

tables! {
    File { global: Global, defined_sets: DefinedSets, policy_definitions: Vec<Definition> }
    Global { apply_policy: ApplyPolicy }
    ApplyPolicy { config: Apply }
    Apply {
        import_policy_list: Vec<String>,
        default_import_policy: Option<String>,
        export_policy_list: Vec<String>,
        default_export_policy: Option<String>,
        in_policy_list: Vec<String>,
        default_in_policy: Option<String>,
    }
    DefinedSets {
        prefix_sets: Vec<PrefixSet>,
        neighbor_sets: Vec<NeighborSet>,
        tag_sets: Option<toml::Value>,
        bgp_defined_sets: BgpSets,
    }
    PrefixSet { prefix_set_name: String, prefix_list: Vec<PrefixEntry> }
    PrefixEntry { ip_prefix: String, masklength_range: Option<String> }
    NeighborSet { neighbor_set_name: String, neighbor_info_list: Vec<String> }
    BgpSets {
        community_sets: Vec<CommunitySet>,
        ext_community_sets: Vec<ExtCommunitySet>,
        large_community_sets: Vec<LargeCommunitySet>,
        as_path_sets: Vec<AsPathSet>,
    }
    CommunitySet { community_set_name: String, community_list: Vec<String> }
    ExtCommunitySet { ext_community_set_name: String, ext_community_list: Vec<String> }
    LargeCommunitySet { large_community_set_name: String, large_community_list: Vec<String> }
    AsPathSet { as_path_set_name: String, as_path_list: Vec<String> }
    Definition { name: String, statements: Vec<Statement> }
    Statement { name: String, conditions: Conditions, actions: Actions }
    Conditions {
        match_prefix_set: Option<MatchPrefixSet>,
        match_neighbor_set: Option<MatchNeighborSet>,
        bgp_conditions: BgpConditions,
        call_policy: Option<toml::Value>,
        match_tag_set: Option<toml::Value>,
        install_protocol_eq: Option<toml::Value>,
    }
    MatchPrefixSet { prefix_set: String, match_set_options: Option<String> }
    MatchNeighborSet { neighbor_set: String, match_set_options: Option<String> }
    BgpConditions {
        match_community_set: Option<MatchCommunitySet>,
        match_ext_community_set: Option<MatchExtCommunitySet>,
        match_large_community_set: Option<MatchLargeCommunitySet>,
        match_as_path_set: Option<MatchAsPathSet>,
        as_path_length: Option<AsPathLength>,
        route_type: Option<String>,
        next_hop_in_list: Vec<String>,
        afi_safi_in_list: Vec<String>,
        med_eq: Option<toml::Value>,
        origin_eq: Option<toml::Value>,
        local_pref_eq: Option<toml::Value>,
        community_count: Option<toml::Value>,
        rpki_validation_result: Option<toml::Value>,
    }
    MatchCommunitySet { community_set: String, match_set_options: Option<String> }
    MatchExtCommunitySet { ext_community_set: String, match_set_options: Option<String> }
    MatchLargeCommunitySet { large_community_set: String, match_set_options: Option<String> }
    MatchAsPathSet { as_path_set: String, match_set_options: Option<String> }
    AsPathLength { operator: String, value: u32 }
    Actions { route_disposition: Option<String>, bgp_actions: BgpActions, igp_actions: Option<toml::Value> }
    BgpActions {
        set_community: Option<SetCommunity>,
        set_ext_community: Option<SetExtCommunity>,
        set_large_community: Option<SetLargeCommunity>,
        set_med: Option<String>,
        set_as_path_prepend: Option<Prepend>,
        set_next_hop: Option<String>,
        set_local_pref: Option<u32>,
        set_route_origin: Option<toml::Value>,
    }
    SetCommunity { options: String, set_community_method: Method }
    SetExtCommunity { options: String, set_ext_community_method: Method }
    SetLargeCommunity { options: String, set_large_community_method: Method }
    Method { communities_list: Vec<String> }
    Prepend { r#as: String, repeat_n: u8 }
}

/// What OpenELB took and did not apply (compat §5.6).
pub(super) fn unsupported(file: &File) -> Result<(), InvalidPolicy> {
    let named = |there: bool, what: &'static str| if there { Err(InvalidPolicy::Unsupported(what)) } else { Ok(()) };
    named(file.defined_sets.tag_sets.is_some(), "tag-sets")?;
    for statement in file.policy_definitions.iter().flat_map(|d| &d.statements) {
        let (conditions, bgp, actions) =
            (&statement.conditions, &statement.conditions.bgp_conditions, &statement.actions);
        named(conditions.call_policy.is_some(), "call-policy")?;
        named(conditions.match_tag_set.is_some(), "match-tag-set")?;
        named(conditions.install_protocol_eq.is_some(), "install-protocol-eq")?;
        named(bgp.med_eq.is_some(), "med-eq")?;
        named(bgp.origin_eq.is_some(), "origin-eq")?;
        named(bgp.local_pref_eq.is_some(), "local-pref-eq")?;
        named(bgp.community_count.is_some(), "community-count")?;
        named(bgp.rpki_validation_result.is_some(), "rpki-validation-result")?;
        named(actions.igp_actions.is_some(), "igp-actions")?;
        named(actions.bgp_actions.set_route_origin.is_some(), "set-route-origin")?;
    }
    Ok(())
}
