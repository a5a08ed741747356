//! The loop's next thing to do, case by case.

use super::*;
use crate::agent::definition::{Budget, Kind, Tool, ToolEffect};
use crate::agent::state::{AskedCall, LoopState};
use crate::id::{Attempt, Fence, PartitionId, TaskId};
use crate::task::{State, TaskParts, Usage};
use crate::time::Millis;
use crate::trace::Origin;
use expect_test::{Expect, expect};

fn agent() -> Agent {
    let tool = |kind, name: Option<&str>| Tool {
        kind,
        name: name.map(Arc::from),
        description: None,
        url: name.map(|_| Arc::from("http://tool.test/")),
        method: None,
        effect: None,
        parameters: None,
    };
    let tools = vec![tool(ToolKind::Http, Some("look")), tool(ToolKind::Wait, None)];
    Agent { model: Some("m".into()), tools, ..Agent::of_kind(Kind::Model) }
}

fn task(run: Option<LoopState>, iterations: u32) -> Task {
    Task::from(TaskParts {
        id: TaskId::new(1, 1, PartitionId(0)),
        agent: "a".into(),
        tenant: "t".into(),
        state: State::Running,
        input: Payload::null(),
        output: None,
        error: None,
        waiting: None,
        priority: 5,
        fairness_key: None,
        tags: None,
        created_at: Millis(1),
        run_at: Millis(1),
        started_at: Some(Millis(1)),
        ended_at: None,
        deadline: None,
        timeout_ms: u64::MAX,
        attempt: Attempt(1),
        failures: 0,
        max_attempts: 3,
        crashes: 0,
        fence: Fence(1),
        ready_seq: 1,
        ready_at: Millis(1),
        events: 3,
        events_bytes: 300,
        budget: Budget { max_iterations: Some(2) },
        usage: Usage { iterations, ..Usage::default() },
        key: None,
        origin: Origin::default(),
        steps: 3,
        run: run.map(Arc::new),
    })
}

fn open(step: u32, name: &str, arguments: &str, state: OpenState) -> OpenStep {
    OpenStep {
        step: Step(step),
        kind: StepKind::Tool,
        name: name.into(),
        asked: AskedCall::packed(Some("c".into()), Some(Payload::inline(arguments.as_bytes()))),
        effect: ToolEffect::Unsafe,
        state,
    }
}

fn check(open: Vec<OpenStep>, iterations: u32, expected: Expect) {
    let run = LoopState { open: open.into_iter().collect(), ..LoopState::default() };
    expected.assert_eq(&format!("{:?}", next(&task(Some(run), iterations), &agent())));
}

#[test]
fn a_fresh_loop_asks_the_model_until_its_budget_is_used_up() {
    let first = next(&task(None, 0), &agent());
    assert_eq!(first, Next::AskModel { again: None });
    check(vec![], 1, expect!["AskModel { again: None }"]);
    check(
        vec![],
        2,
        expect![[
            r#"Fail { code: "budget_exhausted", message: "the budget of 2 iterations is used up" }"#
        ]],
    );
}

#[test]
fn planned_calls_begin_and_what_cannot_be_done_is_told() {
    use OpenState::Planned;
    check(
        vec![open(2, "look", "{}", Planned)],
        1,
        expect!["CallTool { step: Step(2), tool: 0, arguments: {} }"],
    );
    check(
        vec![open(2, "wait", r#"{"ms":5}"#, Planned)],
        1,
        expect!["StartTimer { step: Step(2), ms: 5 }"],
    );
    check(
        vec![open(2, "wait", "{}", Planned)],
        1,
        expect![[
            r#"Decline { step: Step(2), output: {"error":{"code":"arguments_invalid","message":"wait takes {\"ms\": whole number of milliseconds}"}} }"#
        ]],
    );
    check(
        vec![open(2, "fly", "{}", Planned)],
        1,
        expect![[
            r#"Decline { step: Step(2), output: {"error":{"code":"tool_unknown","message":"there is no tool fly; there are: look, wait"}} }"#
        ]],
    );
    check(
        vec![open(2, "look", "[1]", Planned)],
        1,
        expect![[
            r#"Decline { step: Step(2), output: {"error":{"code":"arguments_invalid","message":"the arguments must be a JSON object"}} }"#
        ]],
    );
}

#[test]
fn calls_are_awaited_then_failures_end_the_attempt_then_the_rest_parks() {
    use OpenState::{Called, Failed, Planned, Timer, Unknown};
    let called = || open(2, "look", "{}", Called);
    let failed = || open(3, "look", "{}", Failed);
    let unknown = || open(4, "look", "{}", Unknown);
    let timer = || open(5, "wait", "{}", Timer(Millis(9)));
    check(vec![called(), failed(), timer()], 1, expect!["Await"]);
    check(vec![failed(), unknown(), open(6, "look", "{}", Planned)], 1, expect!["EndAttempt"]);
    check(
        vec![unknown(), timer()],
        1,
        expect![[r#"Park(Waiting { reason: OutcomeUnknown, name: Some("look"), until: None })"#]],
    );
    check(
        vec![timer()],
        1,
        expect!["Park(Waiting { reason: Timer, name: None, until: Some(Millis(9)) })"],
    );
}

#[test]
fn parallel_calls_are_bounded() {
    let mut steps: Vec<OpenStep> = (0..limits::TOOL_CALLS_PARALLEL_MAX as u32)
        .map(|i| open(i + 1, "look", "{}", OpenState::Called))
        .collect();
    steps.push(open(99, "look", "{}", OpenState::Planned));
    check(steps.clone(), 1, expect!["Await"]);
    steps.remove(0);
    check(steps, 1, expect!["CallTool { step: Step(99), tool: 0, arguments: {} }"]);
}

#[test]
fn a_model_step_that_was_cut_off_is_made_again() {
    let mut step = open(1, "m", "{}", OpenState::Planned);
    step.kind = StepKind::Model;
    check(vec![step], 0, expect!["AskModel { again: Some(Step(1)) }"]);
}
