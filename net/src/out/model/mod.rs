//! Models: an entry of `models`, ready to be asked.

pub mod chunk;
pub mod config;
pub mod context;
pub mod messages;
pub mod openai;
pub mod outcomes;
pub mod scripted;
pub mod sse;

use super::Shared;
use super::answer::payload;
use super::client::{Client, Sent};
use super::error::CallError;
use super::guard::{Guard, parse_url};
use config::{ModelConfig, Provider};
use context::Wanted;
use no_auth::Secret;
use no_engine::agent::state::ModelAnswer;
use no_engine::command::Outcome;
use no_engine::effect::{Call, Context};
use no_engine::payload::Payload;
use openai::OpenAi;
use scripted::Script;
use std::path::Path;

/// A model ready to be asked.
#[derive(Clone)]
pub enum Model {
    /// Behind an OpenAI-compatible server.
    OpenAi(Box<OpenAi>),
    /// In the configuration.
    Scripted(Script),
}

/// Why a model cannot be made of its configuration.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A field is wrong.
    #[error("{pointer}: {detail}")]
    Invalid {
        /// The JSON pointer to it, below the model's entry.
        pointer: String,
        /// What to do.
        detail: String,
    },
    /// The key is not to be had.
    #[error("the key in {source_name} {why}")]
    Key {
        /// The variable or file.
        source_name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The key's file cannot be used.
    #[error(transparent)]
    KeyFile(#[from] no_auth::Error),
}

/// What a model call works on.
pub(super) struct Asked<'a> {
    pub(super) input: &'a Payload,
    pub(super) iteration: u32,
    pub(super) context: &'a Context,
}

/// A model's configuration, checked, with its key: may cross threads.
#[derive(Clone, Debug)]
pub struct Prepared {
    config: ModelConfig,
    key: Option<Secret>,
}

impl Prepared {
    /// Checks a configuration and reads its key, once. `env` gives environment variables.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn new(
        config: &ModelConfig,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Prepared, ModelError> {
        let checked = config.check();
        checked.map_err(|(pointer, detail)| ModelError::Invalid { pointer, detail })?;
        Ok(Prepared { config: config.clone(), key: read_key(config, env)? })
    }
}

impl Model {
    /// The model, with a pool of connections of its own.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for a `baseUrl` that is none.
    pub fn new(
        prepared: &Prepared,
        guard: &Guard,
        tls: &rustls::ClientConfig,
    ) -> Result<Model, ModelError> {
        let config = &prepared.config;
        if config.provider == Provider::Scripted {
            let answers = config.script.clone().unwrap_or_default();
            return Ok(Model::Scripted(Script::new(answers, config.prices)));
        }
        let base = config.base_url.as_deref().unwrap_or("");
        let base = parse_url(base).map_err(|why| ModelError::Invalid {
            pointer: "/baseUrl".into(),
            detail: why.to_string(),
        })?;
        let url = format!("{}/chat/completions", base.as_str().trim_end_matches('/'));
        Ok(Model::OpenAi(Box::new(OpenAi {
            client: Client::new(guard.with_origin(&base), tls),
            url,
            model: config.model.clone().unwrap_or_default(),
            key: prepared.key.clone(),
            prices: config.prices,
        })))
    }
}

fn read_key(
    config: &ModelConfig,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Secret>, ModelError> {
    let error = |source_name: &str, why: String| ModelError::Key {
        source_name: source_name.to_owned(),
        why,
    };
    let (source_name, secret) = if let Some(name) = &config.api_key_env {
        let file_name = format!("{name}_FILE");
        let said = |name: &str| env(name).filter(|text| !text.is_empty());
        match (said(name), said(&file_name)) {
            (Some(_), Some(_)) => {
                let why = format!("is given twice, {file_name} is set as well: remove {name}");
                return Err(error(name, why));
            }
            (Some(text), None) => {
                let secret = Secret::new(text).map_err(|why| error(name, why.to_owned()))?;
                (name.clone(), secret)
            }
            (None, Some(path)) => (file_name, Secret::from_file(Path::new(&path))?),
            (None, None) => {
                return Err(error(name, format!("is not set: set it, or {file_name}")));
            }
        }
    } else if let Some(path) = &config.api_key_file {
        (path.display().to_string(), Secret::from_file(path)?)
    } else {
        return Ok(None);
    };
    secret.for_header().map(Some).map_err(|why| error(&source_name, why.to_owned()))
}

/// Asks the agent's model.
pub(super) async fn run(
    shared: &Shared,
    call: &Call,
    asked: &Asked<'_>,
    sent: &Sent,
) -> Result<Outcome, CallError> {
    let name = call.agent.model.as_deref().unwrap_or("");
    let unknown = || CallError::Unconfigured(format!("there is no model {name}"));
    let model = shared.models.get(name).ok_or_else(unknown)?;
    let delta = |text: &str| (shared.deltas)(call.task, call.step, text);
    let answer = match model {
        Model::Scripted(script) => {
            let answer = script.answer(asked.iteration).await;
            let answer = answer.ok_or_else(|| CallError::Unconfigured("no script".into()))?;
            if let Some(text) = &answer.text {
                delta(text);
            }
            answer
        }
        Model::OpenAi(openai) => {
            let (input, context) = (asked.input, asked.context);
            let wanted = Wanted { task: call.task, step: call.step, input, context };
            let messages = context::messages(&shared.contexts, &shared.reads, &wanted).await?;
            openai.ask(call, &messages, sent, &delta).await?
        }
    };
    outcome(answer)
}

fn outcome(answer: ModelAnswer) -> Result<Outcome, CallError> {
    let json = serde_json::to_vec(&answer).map_err(|e| CallError::Store(e.to_string()))?;
    let output = payload(&json)?;
    Ok(Outcome::Model { answer, output })
}

#[cfg(test)]
mod tests;
