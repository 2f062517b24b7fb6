#include "config/notes.h"

const struct note notes[] = {
    {"run.name", "The run lives in storage.runs/NAME and its sockets carry the name, so two runs "
                 "at a time need two "
                 "names. Letters, digits, '.', '_', '-'."},
    {"text.files",
     "A line of .jsonl or .json is a document, its text under text.field; a .txt or .md file is "
     "one "
     "document; all may end in .zst. A folder is every such file in it and below, sorted by name. "
     "Invalid UTF-8 is replaced and counted. The tokens are made once and kept in storage.cache."},
    {"text.tokens",
     "A run of trainer.steps steps needs a little more than steps x stream.rows tokens: position 0 "
     "of "
     "each context and dropped rows do not become activations, and whole shuffle blocks are made. "
     "The "
     "producer says how many are missing. 0 reads everything, which takes the longest at the first "
     "start."},
    {"text.special",
     "A document that spells out <|endoftext|> would slip a control token into the text. split "
     "(what "
     "other libraries do) takes it as the special token and cuts there; text reads it as ordinary "
     "characters."},
    {"model.path",
     "A .gguf file carries its tokenizer; a folder holds safetensors (one file, or several with an "
     "index), config.json, and tokenizer.json or tokenizer.model. Llama-family and Gemma-2 "
     "models."},
    {"model.layer",
     "12 is the output of the 13th block: blocks.12.hook_resid_post in TransformerLens, "
     "hidden_states[13] in transformers. Some models have positions of massive norm from some "
     "block on "
     "(SmolLM2-135M: from block 11); a tap before it is easier to train on."},
    {"model.bos",
     "auto takes what suits plain text: the model's BOS, or for SmolLM2 <|endoftext|>, which its "
     "training used, though the file names another."},
    {"model.batch_contexts",
     "Larger is faster until the caches are full. The grouping may change the last bits of the "
     "activations, so a stream that is to be repeated bit for bit keeps it."},
    {"stream.dtype",
     "bf16 halves what travels and keeps 8 bits of each number; f32 keeps all. It is part of the "
     "stream's identity."},
    {"stream.rows", "The paper's 2048. Coefficients c_ij of eq. (3) are measured on one batch, so "
                    "small batches make "
                    "them noisy."},
    {"stream.shuffle", "contexts keeps each context's rows together and in order; "
                       "temporal.pairing: position needs that. "
                       "rows mixes better."},
    {"stream.shuffle_block", "A batch's rows come from a block of this many batches. The first "
                             "batch waits for a whole block "
                             "of model work, and the producer holds one block in memory: 2 to 4 "
                             "for quick runs, 16 and more "
                             "for good mixing."},
    {"stream.drop_norm_above",
     "Some tokens have activations 10 to 100 times longer than the rest; one of them takes the "
     "whole "
     "gradient clip of its step. Rows are compared with the median norm of their shuffle block and "
     "counted in the metrics."},
    {"sae.arch",
     "relu: max(z, 0), with the L1 term the paper's Standard SAE. topk: the topk largest of each "
     "row. "
     "batchtopk: the largest B x topk of the whole batch, and a running threshold afterwards. "
     "jumprelu: z where z exceeds a threshold learned per latent. Competition and temporal terms "
     "go "
     "with each of them."},
    {"sae.latents", "The paper's 16384 is about 7 times the width of Gemma-2-2B (2304). Memory of "
                    "the trainer: 12 to "
                    "16 bytes x 2 x latents x width for weights, gradients and moments."},
    {"sae.threshold_init", "Activations below it give no gradient to their latent, so it should be "
                           "small against the scale of "
                           "the inputs (with sae.normalize: about 1)."},
    {"sae.pre_bias", "The paper's eq. (1) does not subtract; SAELens, dictionary_learning and "
                     "OpenAI's code do. Both "
                     "load everywhere: the switch is part of the checkpoint."},
    {"sae.normalize", "The L1 weight means something else for every input scale. With "
                      "mean_norm_sqrt_d settings carry "
                      "over between models and layers; weights on disk are for raw activations "
                      "either way, and scores "
                      "are always of raw activations."},
    {"sae.unit_norm",
     "The paper keeps the rows of both matrices at norm 1. decoder leaves the encoder free, which "
     "reached lower error in our trials at higher learning rates. off also lets L1 shrink features "
     "by "
     "growing the decoder."},
    {"sae.b_dec_init", "The mean of the inputs is a good start where they are far from zero."},
    {"loss.lambda_s", "Trial and error per model and scale: with sae.normalize mean_norm_sqrt_d "
                      "values around 1 to 2 "
                      "gave L0 from 200 down to 70 on SmolLM2-135M; on raw activations the paper's "
                      "0.04 is far weaker "
                      "where norms are large."},
    {"loss.lambda_o", "Scales the sum over pairs of latents that fire together (c_ij > theta) of "
                      "the squared product of "
                      "their decoder rows. 0 removes the term and its cost: Standard, TopK and "
                      "JumpReLU of the paper "
                      "have none."},
    {"loss.lambda_t",
     "Holds features near those of temporal.pairing's predecessor, which counts as a constant."},
    {"loss.sparsity",
     "l1: mean |f|. l0: mean number of active latents, by straight-through estimators (jumprelu). "
     "target_l0: (L0 / target_l0 - 1)^2 (jumprelu). tanh: sum of tanh(4 f), which does not push "
     "large "
     "features down."},
    {"curriculum.enabled",
     "false is the paper's ablation \"no curriculum\": alpha 1 and theta = theta_end from step 0."},
    {"curriculum.recon_end", "The defaults are the paper's, for 2441 steps: a shorter run must "
                             "move them, or the later phases "
                             "never come (osae says so)."},
    {"curriculum.theta_start",
     "theta_end equal to it is the paper's ablation \"fixed threshold\"."},
    {"competition.gradient",
     "detached reads the paper's \"alternates computing competition coefficients and optimizing\". "
     "through also lets the term lower c_ij itself."},
    {"competition.every",
     "n computes the term at every n-th step only and then weighs it n times, for less time."},
    {"temporal.pairing",
     "step: row b of a batch with row b of the batch before, as features stood then. position: "
     "each "
     "token with the token before it in its context; needs stream.shuffle: contexts."},
    {"optimiser.threshold_lr", "Adam moves a parameter by about its rate a step: at 7e-6 a "
                               "threshold travels 0.017 in the whole "
                               "run. auto is 1e-3, or optimiser.lr where that is larger."},
    {"optimiser.beta1", "The paper's 0 keeps no first moment, which saves its memory."},
    {"optimiser.decay", "Counted back from trainer.steps, so with a decay the length of a run is "
                        "part of what decides its "
                        "numbers and cannot be raised later."},
    {"trainer.steps", "5 million tokens in batches of 2048 are the paper's 2441 steps. A finished "
                      "run goes on when the "
                      "number is raised and it is started again."},
    {"trainer.dead_after", "Only counts and reports; nothing is done about dead latents."},
    {"trainer.producers", "Several producers of one stream share the work (producer.shard, "
                          "producer.shards); the numbers "
                          "do not depend on how many."},
    {"evaluator.trainers",
     "Their other endpoints are asked for there. Empty: the trainer of this file."},
    {"eval.text", "Text the SAE was not trained on. Without it nothing can be scored."},
    {"eval.batch_contexts", "SAEBench's mse is divided by the tokens of a batch, so scores are "
                            "comparable at the same number "
                            "only; 16 is its own."},
    {"eval.absorption", "final: the last checkpoint; all: every one; every:N: steps that are a "
                        "multiple of N, and the last; at: these steps alone. What the model knows "
                        "about letters is found out once and kept in the cache."},
    {"eval.profile", "full reads the whole vocabulary: 50,000 prompts for SmolLM2, 200,000 for "
                     "Gemma. quick takes minutes instead of hours, but its scores compare with one "
                     "another only."},
    {"ckpt.every_s", "A checkpoint is written beside the training; a killed run repeats what came "
                     "after the newest one, "
                     "with the same numbers. A run also saves when it ends or is stopped."},
    {"storage.cache",
     "The environment's OSAE_CACHE is the same setting. Paths written cache://x are below it. In a "
     "checkout, make and osae data keep what they fetch in its cache/ instead and print the paths, "
     "so that a checkout can be thrown away whole; a run made by osae init on those paths still "
     "makes its token files here."},
    {"data.xf",
     "auto: through shared memory from 1 MiB a batch on, where producer and trainer are on one "
     "machine; else, and wherever the memory cannot be mapped, through the socket. inline, at the "
     "producer, offers nothing else."},
    {"pace.mode",
     "bounded: the fastest trainer leads by lag batches and then waits for the slowest. freerun: "
     "nobody waits for this trainer; when it is lag batches behind it is let go, and comes back to "
     "be served from where it was once that holds nobody up. No mode ever drops a batch."},
    {"security.plain_loopback", "Any user of this machine can connect to a tcp port, so pause, "
                                "stop and set are refused there; "
                                "on ipc the folder belongs to you alone."},
};

const size_t notes_count = sizeof notes / sizeof notes[0];
