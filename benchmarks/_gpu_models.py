"""The models of `benchmarks/rerank_gpu.py`: random weights of real shapes, and ways to run them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inference.eight_bits import convert
from inference.engines import Encoded, Reranker
from inference.packed import Cuts, Pack, PackedEncoder, varlen_attention
from inference.precision import FLOAT8, FLOAT8_GENERATION
from inference.scheduler import BATCH_TEXTS
from inference.types import ModelInfo

PAIRS = 100
SEED = 7
MAX_TOKENS = 512
# Weights are normal, with a deviation of 0.02 at a width of 1,024; queries and keys are larger, or
# attention would be the same everywhere and all logits alike, and a comparison of scores void.
SPREAD, ATTENDING = 0.64, 3.0
# Made by tests and by `--shape tiny`: anything runs them, and their speed means nothing.
TINY = {
    "vocab_size": 5000,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
# large: bge-reranker-v2-m3; base: jina-reranker-v2-base-multilingual.
SHAPES: dict[str, dict[str, int]] = {
    "large": {
        "vocab_size": 250002,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    "base": {
        "vocab_size": 250002,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "minilm": {
        "vocab_size": 30522,
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
    "tiny": TINY,
    "tiny-bert": TINY,
}
BERTS = ("minilm", "tiny-bert")
# Arms of ours in bfloat16, by what RERANKER_SPEEDUPS would have to say.
SPED_UP: dict[str, tuple[str, ...]] = {
    "ours": (),
    "ours gelu": ("gelu",),
    "ours compiled": ("compile",),
    "ours compiled gelu": ("compile", "gelu"),
    "ours graphs": ("graphs",),
    "ours all": ("compile", "gelu", "graphs"),
}
FLASH = ("flash_attention_2", "flash_attention_3", "flash_attention_4")

Pairs = list[tuple[str, str]]
Score = Callable[[Pairs], "np.ndarray[Any, Any]"]


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to score pairs.

    passes: how many forward passes it takes for (n,) pairs. note: what a reader must know.
    """

    score: Score
    passes: Callable[[Pairs], int]
    note: str = ""


def save_random(shape: str, folder: Path, device: str = "cpu") -> None:
    """A cross-encoder with random weights, and a tokenizer that reads numbers as token ids."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        PreTrainedTokenizerFast,
        XLMRobertaConfig,
        XLMRobertaForSequenceClassification,
    )

    torch.manual_seed(SEED)
    values: dict[str, Any] = {**SHAPES[shape], "num_labels": 1, "pad_token_id": 1}
    values["initializer_range"] = SPREAD / math.sqrt(values["hidden_size"])
    with torch.device(device):  # on a CPU half a billion random numbers take long
        if shape in BERTS:
            config = BertConfig(max_position_embeddings=MAX_TOKENS, **values)
            made: Any = BertForSequenceClassification(config)
        else:
            values |= {"max_position_embeddings": MAX_TOKENS + 2, "type_vocab_size": 1}
            made = XLMRobertaForSequenceClassification(XLMRobertaConfig(**values))
    with torch.no_grad():
        for layer in made.base_model.encoder.layer:
            layer.attention.self.query.weight.mul_(ATTENDING)
            layer.attention.self.key.weight.mul_(ATTENDING)
    made.save_pretrained(folder)
    special = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    words = special | {str(n): n for n in range(4, 5000)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)


def lengths(mix: str, chooser: random.Random, *, count: int = PAIRS) -> list[int]:
    """Tokens of each pair: of `count`, or of so many as `30x128` or `10xnq` names."""
    named, _, kind = mix.rpartition("x") if mix[0].isdecimal() else ("", "", mix)
    pairs = range(int(named or count))
    if kind.isdecimal():
        return [int(kind) for _ in pairs]
    if kind == "nq":
        return [min(512, max(32, int(chooser.lognormvariate(4.9, 0.5)))) for _ in pairs]
    if kind == "mixed":  # questions and answers beside long sections
        ends = ((32, 92), (392, 512))
        return [chooser.randint(*ends[chooser.random() < 0.5]) for _ in pairs]
    if kind == "chunks":  # a chunker that fills its limit
        return [chooser.randint(452, 512) if chooser.random() < 0.8 else 132 for _ in pairs]
    if kind == "uniform":
        return [chooser.randint(48, 512) for _ in pairs]
    raise ValueError(f"there is no mix {mix}")


def words(count: int, chooser: random.Random) -> str:
    """So many words that the tokenizer knows."""
    return " ".join(str(chooser.randrange(4, 5000)) for _ in range(count))


def pairs(mix: str, *, count: int = PAIRS, seed: int = SEED) -> Pairs:
    """A question of eight tokens and passages for the rest."""
    chooser = random.Random(seed)
    question = words(8, chooser)
    sizes = lengths(mix, chooser, count=count)
    return [(question, words(tokens - 12, chooser)) for tokens in sizes]


def tokens_of(tokenizer: Any, asked: Pairs) -> list[int]:
    """Tokens of each pair as the model reads it."""
    read = tokenizer([a for a, _ in asked], [b for _, b in asked], truncation=True)
    return [len(ids) for ids in read.input_ids]


def operations(shape: str, tokens: Sequence[int]) -> float:
    """Of one forward pass over texts of so many tokens, without the embeddings."""
    values = SHAPES[shape]
    width, layers = values["hidden_size"], values["num_hidden_layers"]
    weights = layers * (4 * width**2 + 2 * width * values["intermediate_size"])
    return sum(2.0 * weights * t + 4.0 * layers * width * t * t for t in tokens)


def batches(
    encoded: Sequence[Encoded], most_tokens: int, *, is_packed: bool, most_texts: int = BATCH_TEXTS
) -> list[list[int]]:
    """Numbers of the texts that the scheduler would compute together, were nobody else there."""
    waiting = sorted(range(len(encoded)), key=lambda n: encoded[n].tokens)
    found: list[list[int]] = [[]]
    tokens = 0
    for n in waiting:
        longest = encoded[n].tokens
        tokens += longest
        computed = tokens if is_packed else longest * (len(found[-1]) + 1)
        if found[-1] and (computed > most_tokens or len(found[-1]) == most_texts):
            found.append([])
            tokens = longest
        found[-1].append(n)
    return found


def computed(engine: Any, encoded: Sequence[Encoded]) -> np.ndarray[Any, Any]:
    """Results of an engine, one row for each text, batch after batch."""
    groups = batches(encoded, engine.batch_tokens, is_packed=engine.is_packed)
    rows = np.concatenate([engine.compute([encoded[n] for n in group]) for group in groups])
    return rows[np.argsort(np.concatenate(groups))]


def ours(engine: Reranker, note: str = "") -> Arm:
    """As the scheduler runs one request on a GPU: packs of up to the token budget."""

    def encode(asked: Pairs) -> list[Encoded]:
        return engine.encode(asked[0][0], [passage for _, passage in asked])

    return Arm(
        lambda asked: computed(engine, encode(asked)),
        lambda asked: len(batches(encode(asked), engine.batch_tokens, is_packed=engine.is_packed)),
        note,
    )


def predict(model: Any, batch: int = 32, note: str = "") -> Arm:
    """`CrossEncoder.predict`."""
    options = {"batch_size": batch, "show_progress_bar": False, "convert_to_numpy": True}
    return Arm(
        lambda asked: np.asarray(model.predict(asked, **options)),
        lambda asked: math.ceil(len(asked) / batch),
        note,
    )


@dataclass
class Models:
    """Cross-encoders and engines of the weights in a folder, which on a GPU they share."""

    shape: str
    folder: str
    device: str

    def __post_init__(self) -> None:
        save_random(self.shape, Path(self.folder), self.device)
        self.exact = self.load(torch.float32)
        self.half = self.load(torch.bfloat16)

    def load(self, dtype: torch.dtype) -> Any:
        """A cross-encoder of sentence-transformers that gives raw logits."""
        from sentence_transformers import CrossEncoder

        model = CrossEncoder(self.folder, device=self.device, activation_fn=torch.nn.Identity())
        return model.to(dtype).eval()

    @cached_property
    def modular(self) -> tuple[Any, str]:
        """The re-headed model in bfloat16, and whether it computes padding."""
        return re_headed(self, torch.bfloat16)

    def engine(self, *speedups: str, model: Any = None) -> Reranker:
        """The model server's engine, in bfloat16 if no model is given."""
        if model is None:  # on a CPU an engine replaces layers of its model
            model = self.half if self.device == "cuda" else self.load(torch.bfloat16)
        dtype = str(model.dtype).removeprefix("torch.")
        info = ModelInfo("random", "benchmark", self.device, dtype, MAX_TOKENS)
        return Reranker(info, model, speedups=speedups)

    def in_float8(self, *speedups: str) -> Reranker:
        """The same with linear layers in eight bits."""
        model = self.load(torch.bfloat16)
        convert(model[0].auto_model, FLOAT8)
        return self.engine(*speedups, model=model)

    def with_logits(
        self, make: Callable[[Any], Callable[[Pack], Any]], model: Any = None
    ) -> Reranker:
        """The engine with another way from packs to logits, made of the network."""
        engine = self.engine(model=model)
        engine._packed = make(engine.model[0].auto_model)
        return engine

    def _sped_up(self, speedups: Sequence[str]) -> Arm:
        return ours(self.engine(*speedups))

    def arms(self) -> dict[str, Callable[[], Arm]]:
        """All steps of the ladder by name, to be made one by one: any of them may be impossible."""
        modular = "predict re-headed bf16"
        found: dict[str, Callable[[], Arm]] = {
            "predict fp32": lambda: predict(self.exact),
            "predict bf16": lambda: predict(self.half),
            "predict bf16 100": lambda: predict(self.half, PAIRS),
            modular: lambda: predict(self.modular[0], note=self.modular[1]),
            f"{modular} 100": lambda: predict(self.modular[0], PAIRS, self.modular[1]),
            "padded, varlen attention": lambda: ours(self.with_logits(padded_linears)),
            "packed": lambda: ours(self.with_logits(whole_last_layer)),
        }
        for name, speedups in SPED_UP.items():
            if self.device == "cuda" or not speedups:
                found[name] = partial(self._sped_up, speedups)
        if self.device == "cpu" or torch.cuda.get_device_capability() >= FLOAT8_GENERATION:
            found["ours float8"] = lambda: ours(self.in_float8())
        if self.device == "cuda" and "ours float8" in found:
            found["ours float8 compiled"] = lambda: ours(self.in_float8("compile"))
        return found


def re_headed(models: Models, dtype: torch.dtype) -> tuple[Any, str]:
    """The same model as modules, which sentence-transformers can compute without padding.

    It does so for models of feature extraction alone and where transformers finds a kernel of flash
    attention that takes varying lengths; torch's own is not among those.

    Returns: the cross-encoder, and whether it computes padding.
    """
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    inner = models.exact[0].auto_model
    if models.shape in BERTS:
        dense, out = inner.base_model.pooler.dense, inner.classifier
    else:
        dense, out = inner.classifier.dense, inner.classifier.out_proj
    width = dense.in_features
    plain = {"add_pooling_layer": False}
    reader, attention = None, ""
    for attention in FLASH if models.device == "cuda" else ():
        try:
            wanted = {**plain, "attn_implementation": attention, "dtype": dtype}
            reader = Transformer(models.folder, model_kwargs=wanted)
            break
        except (ImportError, OSError, RuntimeError, ValueError):  # not installed, or not for it
            continue
    reader = reader or Transformer(models.folder, model_kwargs=plain)
    head = [
        Dense(
            width,
            linear.out_features,
            activation_function=activation,
            init_weight=linear.weight.detach().clone(),
            init_bias=linear.bias.detach().clone(),
            module_output_name=name,
        )
        for linear, activation, name in (
            (dense, torch.nn.Tanh(), None),
            (out, torch.nn.Identity(), "scores"),
        )
    ]
    model = CrossEncoder(
        modules=[reader, Pooling(width, "cls"), *head],
        device=models.device,
        activation_fn=torch.nn.Identity(),
    )
    note = "padded: no flash attention wheel"
    if reader.can_flatten_inputs:
        note = f"not padded, by {attention}"
    return model.to(dtype).eval(), note


def whole_last_layer(network: Any) -> Callable[[Pack], Any]:
    """Packs, but without the shortcut in the last layer."""
    encoder = PackedEncoder(network.base_model)
    head = _head(network)
    return lambda pack: head(encoder.states(pack)[pack.firsts])


@dataclass(frozen=True, slots=True)
class PaddedCuts(Cuts):
    """Of texts that lie in a padded matrix (n * longest,): the places of the tokens that count."""

    real: Any


def padded_linears(network: Any) -> Callable[[Pack], Any]:
    """What flash attention makes of a padded batch: only attention is spared the padding."""

    def attend(query: Any, key: Any, value: Any, asked: Any, read: Any) -> Any:
        found = varlen_attention(query[asked.real], key[read.real], value[read.real], asked, read)
        return torch.zeros_like(query).index_copy_(0, asked.real, found)

    encoder, head = PackedEncoder(network.base_model, attention=attend), _head(network)

    def logits(pack: Pack) -> Any:
        cuts, texts, most = pack.cuts, len(pack.cuts.lengths), max(pack.cuts.lengths)
        begins = torch.from_numpy(np.repeat(np.arange(texts) * most, cuts.lengths))
        real = pack.places + begins.to(pack.ids.device, non_blocking=True)

        def spread(values: Any) -> Any:
            return values.new_zeros(texts * most).index_copy_(0, real, values)

        rows = PaddedCuts(cuts.ends, cuts.lengths, cuts.longest, real)
        padded = Pack(spread(pack.ids), spread(pack.types), spread(pack.places), rows)
        return head(encoder.states(padded)[::most])

    return logits


def _head(network: Any) -> Callable[[Any], Any]:
    """From the states (n, d) of first tokens to logits (n,)."""
    pooler = getattr(network.base_model, "pooler", None)

    def head(firsts: Any) -> Any:
        states = firsts.unsqueeze(1)
        return network.classifier(states if pooler is None else pooler(states)).reshape(-1)

    return head
