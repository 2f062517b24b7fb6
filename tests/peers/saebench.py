"""SAEBench 0.6, offline: models and SAEs from folders, its evaluations on given rows of tokens.

Everything that computes a number is the peer's own code. What is replaced is where it would ask a hub: the name
`HookedTransformer` in its modules becomes an object that returns the model made here.
"""
import json
import os
import tempfile
import warnings

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1", JAXTYPING_DISABLE="1",
                  TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")
warnings.filterwarnings("ignore")
import numpy as np
import safetensors.numpy
import torch
import transformers
import transformer_lens
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gemma_weights, convert_llama_weights
from sae_bench.custom_saes.base_sae import BaseSAE

torch.set_grad_enabled(True)


def open_hf(path, bos):
    """A folder or a .gguf file as (HF model in float32, HF tokenizer whose bos is the id given)."""
    if path.endswith(".gguf"):
        folder, name = os.path.split(path)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    else:
        model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=os.path.join(path, "tokenizer.json"))
        for role in ("bos", "eos", "pad"):
            number = getattr(model.config, f"{role}_token_id")
            if number is not None:
                setattr(tokenizer, f"{role}_token", tokenizer.convert_ids_to_tokens(number))
    tokenizer.bos_token = tokenizer.convert_ids_to_tokens(bos)
    tokenizer.padding_side = "right"
    # TransformerLens opens a tokenizer a second time, by its folder.
    folder = tempfile.mkdtemp(prefix="osae-peer-")
    tokenizer.save_pretrained(folder)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


def hooked(hf, tokenizer, name):
    """The same model as TransformerLens has it, unprocessed."""
    c = hf.config
    head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    theta = c.rope_parameters["rope_theta"] if getattr(c, "rope_parameters", None) else c.rope_theta
    cfg = dict(model_name=name, d_model=c.hidden_size, d_head=head, n_heads=c.num_attention_heads,
               d_mlp=c.intermediate_size, n_layers=c.num_hidden_layers, n_ctx=min(c.max_position_embeddings, 1024),
               eps=c.rms_norm_eps, d_vocab=c.vocab_size, normalization_type="RMS", positional_embedding_type="rotary",
               rotary_adjacent_pairs=False, rotary_dim=head, rotary_base=int(theta), final_rms=True, gated_mlp=True,
               n_key_value_heads=c.num_key_value_heads if c.num_key_value_heads != c.num_attention_heads else None,
               original_architecture=type(hf).__name__, tokenizer_name=name, dtype=torch.float32, device="cpu",
               default_prepend_bos=True)
    if c.model_type == "gemma2":
        cfg.update(act_fn="gelu_pytorch_tanh", use_normalization_before_and_after=True, use_attn_scale=True,
                   attn_scale=c.query_pre_attn_scalar ** 0.5, window_size=c.sliding_window, use_local_attn=True,
                   attn_types=["local" if t.startswith("sliding") else "global" for t in c.layer_types],
                   attn_scores_soft_cap=c.attn_logit_softcapping, output_logits_soft_cap=c.final_logit_softcapping)
        convert = convert_gemma_weights
    else:
        cfg.update(act_fn=c.hidden_act)
        convert = convert_llama_weights
    cfg = HookedTransformerConfig.from_dict(cfg)
    model = HookedTransformer(cfg, tokenizer)
    model.load_and_process_state_dict(convert(hf, cfg), fold_ln=False, center_writing_weights=False,
                                      center_unembed=False, fold_value_biases=False)
    ids = torch.randint(3, c.vocab_size, (2, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        error = (model(ids).log_softmax(-1) - hf(ids).logits.log_softmax(-1)).abs().max().item()
    assert error < 1e-3, f"{name}: TransformerLens and transformers differ by {error}"
    return model


class FolderSAE(BaseSAE):
    """A SAELens folder with decoder rows of norm 1, as SAEBench takes its own custom SAEs."""

    def __init__(self, folder, model_name, layer):
        self.setup = json.load(open(os.path.join(folder, "cfg.json")))
        weights = safetensors.numpy.load_file(os.path.join(folder, "sae_weights.safetensors"))
        super().__init__(self.setup["d_in"], self.setup["d_sae"], model_name, layer, torch.device("cpu"),
                         torch.float32)
        self.setup_pre = self.setup.get("apply_b_dec_to_input", True)
        self.threshold = torch.tensor(weights.pop("threshold")) if "threshold" in weights else None
        for key, value in weights.items():
            getattr(self, key).data = torch.tensor(value)
        self.cfg.dtype = "float32"
        self.cfg.architecture = self.setup["architecture"]
        self.cfg.training_tokens = 0

    def encode(self, x):
        if self.setup_pre:
            x = x - self.b_dec
        z = x @ self.W_enc + self.b_enc
        if self.threshold is not None:
            return torch.relu(z) * (z > self.threshold)
        z = torch.relu(z)
        if self.setup["architecture"] == "topk":
            values, at = z.topk(self.setup["k"], dim=-1)
            return torch.zeros_like(z).scatter_(-1, at, values)
        return z

    def decode(self, f):
        return f @ self.W_dec + self.b_dec

    def forward(self, x):
        return self.decode(self.encode(x))


class Prepared:
    """Stands for HookedTransformer in the peer's modules."""

    def __init__(self, model):
        self.model = model

    def from_pretrained_no_processing(self, *_, **__):
        return self.model


def core(model, sae, rows, folder, batch, core_batches, variance_batches):
    """SAEBench's core evaluation on a JSONL file of {"input_ids": [...]} alone in its folder."""
    import sae_bench.evals.core.main as main
    import sae_lens.training.activations_store as store

    store.validate_pretokenized_dataset_tokenizer = lambda *_, **__: None
    main.HookedTransformer = Prepared(model)
    got = main.multiple_evals([("peer", sae)], core_batches, variance_batches, batch,
                              compute_featurewise_density_statistics=True,
                              compute_featurewise_weight_based_metrics=True,
                              exclude_special_tokens_from_reconstruction=True, dataset=rows, context_size=128,
                              output_folder=folder, dtype="float32", device="cpu", force_rerun=True)
    assert len(got) == 1, "SAEBench failed; its log says why"
    name = [n for n in os.listdir(folder) if n.endswith("_eval_results.json")][0]
    return json.load(open(os.path.join(folder, name)))


def probing(model, sae, sets, folder, train, test, tasks=None):
    """SAEBench's sparse probing on sets {name: rows of {"text", "label", "split"}}, `train` and `test` texts a task.

    `tasks` {name: {class: {side: [(class of the text, its place there, is it positive)]}}} replaces its draws."""
    import sae_bench.evals.sparse_probing.main as main
    import sae_bench.sae_bench_utils.dataset_info as info
    import sae_bench.sae_bench_utils.dataset_utils as data
    from sae_bench.evals.sparse_probing.eval_config import SparseProbingEvalConfig

    main.HookedTransformer = Prepared(model)
    now = []  # the set at work
    for name, rows in sets.items():
        info.chosen_classes_per_dataset[name] = sorted({row["label"] for row in rows})

    def texts(name, *_, **__):
        now[:] = [name]
        return tuple({c: [row["text"] for row in sets[name] if row["label"] == c and row["split"] == side]
                      for c in info.chosen_classes_per_dataset[name]} for side in ("train", "test"))

    def drawn(acts, name, *_):
        task = tasks[now[0]][name]
        task = task["train" if len(acts[name]) == train // 2 else "test"]
        labels = [info.POSITIVE_CLASS_LABEL if positive else info.NEGATIVE_CLASS_LABEL for _, _, positive in task]
        return torch.stack([acts[c][i] for c, i, _ in task]), torch.tensor(labels, dtype=torch.int)

    data.get_multi_label_train_test_data = texts
    if tasks:
        main.probe_training.prepare_probe_data = drawn
    config = SparseProbingEvalConfig(model_name=model.cfg.model_name, dataset_names=list(sets), llm_batch_size=16,
                                     llm_dtype="float32", probe_train_set_size=train, probe_test_set_size=test,
                                     k_values=[1, 2, 5])
    main.run_eval(config, [("peer", sae)], "cpu", folder, force_rerun=True, save_activations=False,
                  artifacts_path=os.path.join(folder, "artifacts"))
    result = [n for n in os.listdir(folder) if n.endswith("_eval_results.json")][0]
    return json.load(open(os.path.join(folder, result)))


def accepts(result):
    """Does SAEBench's own schema take this file of ours?"""
    import sae_bench.evals.absorption.eval_output as absorption
    import sae_bench.evals.core.eval_output as core
    import sae_bench.evals.sparse_probing.eval_output as probing_output

    schema = {"core": core.CoreEvalOutput, "absorption_first_letter": absorption.AbsorptionEvalOutput,
              "sparse_probing": probing_output.SparseProbingEvalOutput}[result["eval_type_id"]]
    from pydantic import TypeAdapter

    TypeAdapter(schema).validate_python(result)
    return True
