//! The keys of what work is done with: `performance`, `models`, `agents`, `roles`.

use super::Kind::{Agent, Any, Duration, Flag, Number, OneOf, Text, Texts, Whole};
use super::{DAY_MS, Key, refused, waits, works};

/// Those keys, by section.
pub(super) const KEYS: &[Key] = &[
    works(
        "performance.autoscaling.enabled",
        Flag,
        "false",
        &[],
        "scale the slots between minAgents and maxAgents; else there are maxAgents",
    ),
    works(
        "performance.autoscaling.minAgents",
        Whole(1, 100_000),
        "5",
        &[],
        "slots at start and at least; never fewer than one for each shard",
    ),
    works(
        "performance.autoscaling.maxAgents",
        Whole(1, 100_000),
        "50",
        &[],
        "slots for running work on this node; parked loops take none",
    ),
    works(
        "performance.autoscaling.targetCpu",
        Whole(1, 100),
        "70",
        &[],
        "the slots grow no further than this use of the CPU allows, in percent; halfway from here \
         to 100 they shrink",
    ),
    works(
        "performance.autoscaling.targetMemory",
        Whole(1, 100),
        "80",
        &[],
        "past this use of memory, in percent, the slots lose a quarter at once and every 10 s",
    ),
    works(
        "performance.autoscaling.scaleUpCooldown",
        Duration(DAY_MS),
        "180000",
        &[],
        "least time from a change of the slots to the next growth",
    ),
    works(
        "performance.autoscaling.scaleDownCooldown",
        Duration(DAY_MS),
        "600000",
        &[],
        "least time from a change of the slots to the next shrinking, unless memory is short",
    ),
    refused("performance.caching.enabled", Flag, "false", &[], "cache model and tool answers"),
    waits(
        "performance.caching.defaultTtl",
        Duration(366 * DAY_MS),
        "300000",
        &[],
        "life of an entry",
    ),
    waits("performance.caching.maxSize", Whole(1, 100_000_000), "10000", &[], "entries in memory"),
    waits("performance.caching.layers", Texts, "[\"memory\",\"redis\"]", &[], "layers, in order"),
    waits(
        "performance.connectionPool.enabled",
        Flag,
        "true",
        &[],
        "keep connections to the database open",
    ),
    waits("performance.connectionPool.minConnections", Whole(0, 10_000), "10", &[], "at least"),
    waits("performance.connectionPool.maxConnections", Whole(1, 10_000), "100", &[], "at most"),
    waits(
        "performance.connectionPool.acquireTimeout",
        Duration(DAY_MS),
        "30000",
        &[],
        "longest wait for one",
    ),
    waits(
        "performance.connectionPool.idleTimeout",
        Duration(DAY_MS),
        "300000",
        &[],
        "an unused one is closed after",
    ),
    works("models.*.provider", OneOf(&["openai", "scripted"]), "", &[], "who answers"),
    works("models.*.baseUrl", Text, "", &[], "base URL of an OpenAI-compatible server, with /v1"),
    works("models.*.model", Text, "", &[], "the model's name at its provider"),
    works(
        "models.*.apiKeyEnv",
        Text,
        "",
        &[],
        "variable that holds the API key; or of this name with _FILE, the path of a file that does",
    ),
    works(
        "models.*.apiKeyFile",
        Text,
        "",
        &[],
        "file that holds the API key, readable by nO's user alone",
    ),
    works("models.*.contextWindow", Whole(1, 1 << 32), "", &[], "tokens that the model takes"),
    works("models.*.prices.inputPerMillion", Number, "", &[], "US dollars per million of tokens"),
    works("models.*.prices.outputPerMillion", Number, "", &[], "US dollars per million of tokens"),
    works("models.*.script", Any, "", &[], "answers of provider scripted, in order"),
    refused("models.*.limits", Any, "", &[], "requests and tokens a minute"),
    works("agents.*", Agent, "", &[], "an agent, as PUT /v1/agents/{name} takes it (snake_case)"),
    works(
        "roles.*.permissions",
        Texts,
        "",
        &[],
        "what the role may: tasks:submit, tasks:read, tasks:control, agents:read, agents:write, \
         worker:lease, ops:read, admin:shutdown; may be left out for a role that is built in \
         (viewer, submitter, worker, operator, admin), and admin's are always all",
    ),
    works(
        "roles.*.claims",
        Texts,
        "",
        &[],
        "values of oauth.rolesClaim that give the role; without this key the role's own name does",
    ),
];
