//! Provider `scripted`: gives the answers of the configuration, in order.

use super::config::{Prices, ScriptAnswer};
use no_engine::agent::state::{ModelAnswer, ToolCall};
use no_engine::task::Usage;
use std::time::Duration;

/// A script, checked to have an answer.
#[derive(Clone, Debug)]
pub struct Script {
    answers: Vec<ScriptAnswer>,
    prices: Option<Prices>,
}

impl Script {
    /// A script of these answers.
    #[must_use]
    pub fn new(answers: Vec<ScriptAnswer>, prices: Option<Prices>) -> Script {
        Script { answers, prices }
    }

    /// The answer of iteration `iteration`, from 1; the last one from there on. `None` without any.
    pub async fn answer(&self, iteration: u32) -> Option<ModelAnswer> {
        let place = usize::try_from(iteration.saturating_sub(1)).unwrap_or(usize::MAX);
        let answer = self.answers.get(place).or_else(|| self.answers.last())?;
        if let Some(ms) = answer.delay_ms {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        Some(self.written(answer, iteration))
    }

    fn written(&self, answer: &ScriptAnswer, iteration: u32) -> ModelAnswer {
        let call = |(k, call): (usize, &super::config::ScriptCall)| ToolCall {
            id: format!("call_{iteration}_{k}").into(),
            name: call.name.clone(),
            arguments: call.arguments.as_ref().map_or("{}", |raw| raw.get()).into(),
        };
        let tool_calls: Vec<ToolCall> = answer.tool_calls.iter().enumerate().map(call).collect();
        // A token is about four bytes: enough for a demo to show that use is counted.
        let text_len = answer.text.as_ref().map_or(0, |text| text.len());
        let calls_len: usize = tool_calls.iter().map(|call| call.arguments.len()).sum();
        let output_tokens = (text_len + calls_len).div_ceil(4) as u64;
        let cost = self.prices.map_or(0, |prices| prices.cost_micro_usd(0, output_tokens));
        let usage = Usage { iterations: 1, input_tokens: 0, output_tokens, cost_micro_usd: cost };
        ModelAnswer { text: answer.text.clone(), tool_calls, usage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(json: &str) -> Script {
        Script::new(serde_json::from_str(json).expect(json), None)
    }

    #[tokio::test(start_paused = true)]
    async fn iterations_walk_through_the_script_and_stay_at_its_end() {
        let script = script(
            r#"[{"tool_calls":[{"name":"f","arguments":{"x":1}},{"name":"wait"}],"delay_ms":50},
                {"text":"done"}]"#,
        );
        let started = tokio::time::Instant::now();
        let first = script.answer(1).await.expect("an answer");
        assert_eq!(started.elapsed(), Duration::from_millis(50));
        assert_eq!(first.tool_calls.len(), 2);
        assert_eq!(&*first.tool_calls[0].arguments, r#"{"x":1}"#);
        assert_eq!(&*first.tool_calls[1].arguments, "{}");
        assert_ne!(first.tool_calls[0].id, first.tool_calls[1].id);
        for iteration in [2, 3, u32::MAX] {
            let answer = script.answer(iteration).await.expect("an answer");
            assert_eq!(answer.text.as_deref(), Some("done"));
            assert_eq!(answer.usage.iterations, 1);
        }
        assert!(Script::new(Vec::new(), None).answer(1).await.is_none());
    }
}
