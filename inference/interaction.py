"""The bundled reranker's network: the words of question and passage, compared one by one.

A small frozen encoder, the packaged bi-encoder, reads question and passage each as it was trained
to. A trained head reads both together: for each token of the question how well the tokens of
the passage meet it, in which neighbourhood, and how much the token tells. Its parts are known
ones: the best match per token (ColBERT, Khattab and Zaharia 2020), soft counts of matches by
kernels (K-NRM, Xiong et al. 2017), term gating (DRMM, Guo et al. 2016) and the best window of a
passage (DeepRank, Pang et al. 2017). Before training the head is already a fair reranker, so few
labels go far; `docs/decisions/0003-bundled-reranker.md` has the figures.

It is a module of sentence-transformers: `CrossEncoder(modules=[Interaction(...)])` predicts, saves
and trains like any other cross-encoder. Only the head is saved: the encoder comes with the
packages, and its digest is checked when it is loaded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from sentence_transformers.base.modules import InputModule
from torch import nn
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from inference.models_on_disk import DEFAULT_EMBEDDER, embedder_folder
from inference.onednn import ROWS_STEP
from inference.packed import Pack, PackedEncoder, cores, is_packable

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

MODULE_TYPE = "inference.interaction.Interaction"
MAX_TOKENS = 512
# Of a passage, whatever the question's length, so that its states are the same for every question.
PASSAGE_TOKENS = 320
# Cosines at which matches are counted; exact ones by a narrow kernel.
STATE_KERNELS = (1.0, 0.8, 0.65, 0.5, 0.35, 0.2)
WORD_KERNELS = (1.0, 0.7, 0.5, 0.3)
NARROW, WIDE = 0.02, 0.1
# Below any cosine: what stands for a token that is not there.
ABSENT = -1.0
WINDOW_SHARPNESS = 8.0


class Interaction(InputModule):
    """Scores pairs: token ids of (n,) question-passage pairs in, (n, 1) logits out."""

    config_keys = ("encoder", "layers", "window", "rank")
    config_file_name = "interaction.json"
    save_in_root = True

    def __init__(
        self,
        *,
        encoder: str = DEFAULT_EMBEDDER,
        layers: Sequence[int] = (3, 6),
        window: int = 31,
        rank: int = 64,
    ) -> None:
        """Make an untrained head over the encoder.

        Args:
            encoder: the packaged bi-encoder, or a folder of a BERT model.
            layers: after which of its layers (from 1) token states are compared; the last
                one is also how many layers are computed.
            window: tokens of a neighbourhood, an odd number.
            rank: of the learned change to the states.
        """
        super().__init__()
        self.encoder, self.layers, self.window, self.rank = encoder, tuple(layers), window, rank
        folder = embedder_folder(encoder) or encoder
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.tokenizer.model_max_length = MAX_TOKENS
        self.bert = AutoModel.from_pretrained(folder).eval()
        self.bert.pooler = None
        self.bert.encoder.layer = self.bert.encoder.layer[: self.layers[-1]]
        self.bert.requires_grad_(requires_grad=False)
        self.memory: StateMemory | None = None
        # The head reads words at full precision whatever the encoder computes in.
        self._words: Tensor | None = None
        self.head = Head(
            self.bert.config.vocab_size,
            self.bert.config.hidden_size,
            layers=len(self.layers),
            window=window,
            rank=rank,
        )

    @property
    def passage_tokens(self) -> int:
        """The most tokens of one passage, special ones included; the rest is not read."""
        return PASSAGE_TOKENS

    @property
    def max_seq_length(self) -> int:
        """The most tokens of one pair."""
        return MAX_TOKENS

    def train(self, mode: bool = True) -> Self:
        """Switch the head; the encoder stays as it is, without dropout."""
        super().train(mode)
        self.bert.eval()
        return self

    def preprocess(self, inputs: Any, prompt: str | None = None, **_: Any) -> dict[str, Any]:
        """Tokenise (n,) pairs of texts, padded to the longest, cut at MAX_TOKENS."""
        questions = [(prompt or "") + pair[0] for pair in inputs]
        passages = [pair[1] for pair in inputs]
        cut = {"truncation": "longest_first", "max_length": MAX_TOKENS}
        return dict(self.tokenizer(questions, passages, padding=True, return_tensors="pt", **cut))

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Add `scores` (n, 1) to the features of n pairs."""
        questions, which, passages = self._sides(features)
        return {**features, "scores": self.score(self.read(questions), which, self.read(passages))}

    def begin(self, features: dict[str, Any]) -> int:
        """Let the memory begin to read what `forward` will need of these features.

        Returns: how many of its passages have to be read.
        """
        questions, _, passages = self._sides(features)
        if self.memory is None:
            return len(passages)
        self.memory.begin(questions)
        return self.memory.begin(passages)

    def read(self, ids: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode texts (n, t) of token ids, each from its start token to its end token.

        Returns: the ids, a mask (n, t) of the tokens that are words, the states (n, t, d) of
        each layer that is compared.
        """
        present = ids != self.tokenizer.pad_token_id
        states = self.states(ids) if self.memory is None else self.memory(ids)
        ends = (ids == self.tokenizer.cls_token_id) | (ids == self.tokenizer.sep_token_id)
        words = present & ~ends
        # A text without words is represented by its start token.
        words[:, 0] |= ~words.any(1)
        return ids, words, states

    def states(self, ids: Tensor) -> list[Tensor]:
        """States (n, t, d) of each layer that is compared; padding has states without meaning."""
        present = ids != self.tokenizer.pad_token_id
        with torch.no_grad():
            found = self.bert(ids, attention_mask=present.long(), output_hidden_states=True)
        return [found.hidden_states[layer].float() for layer in self.layers]

    def read_in_bfloat16(self) -> None:
        """Let the encoder compute in bfloat16 from now on; the head stays at float32.

        To be called before an engine is made of it, which replaces its layers. Quicker only where
        the processor multiplies bfloat16 by itself. The scores move by a few hundredths;
        `benchmarks/rerank_cpu.py` measures both.
        """
        self._words = self.bert.embeddings.word_embeddings.weight.detach().clone()
        self.bert.to(torch.bfloat16)

    def score(
        self,
        questions: tuple[Tensor, Tensor, list[Tensor]],
        which: Tensor,
        passages: tuple[Tensor, Tensor, list[Tensor]],
    ) -> Tensor:
        """Logits (n, 1) of n passages, each against the question of the number `which` (n,)."""
        ids, words, states = questions
        asked = (ids[which], words[which], [layer[which] for layer in states])
        table = self._words
        if table is None:
            table = self.bert.embeddings.word_embeddings.weight
        return self.head(table, asked, passages).unsqueeze(1)

    def save(self, output_path: str, *_: Any, **__: Any) -> None:
        """Write configuration and head as safetensors; encoder and tokenizer are not saved."""
        from safetensors.torch import save_file

        self.save_config(output_path)
        weights = {name: value.contiguous() for name, value in self.head.state_dict().items()}
        save_file(weights, Path(output_path) / "model.safetensors")

    @classmethod
    def load(cls, model_name_or_path: str, **_: Any) -> Self:
        """Read a folder that `save` wrote.

        Raises:
            OSError: a file is missing.
            ValueError: the files do not belong together.
        """
        import json

        from safetensors.torch import load_file

        folder = Path(model_name_or_path)
        made = cls(**json.loads((folder / cls.config_file_name).read_text()))
        try:
            made.head.load_state_dict(load_file(folder / "model.safetensors"))
        except RuntimeError as exc:
            raise ValueError(f"the weights in {folder} are of another network") from exc
        return made

    def _sides(self, features: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """The different questions (m, t), which of them each pair asks (n,), passages (n, u)."""
        ids, present = features["input_ids"], features["attention_mask"].bool()
        first = present & (features["token_type_ids"] == 0)
        lengths, totals = first.sum(1), present.sum(1)
        pad, start = self.tokenizer.pad_token_id, self.tokenizer.cls_token_id
        width = int(lengths.max())
        questions = ids[:, :width].masked_fill(~first[:, :width], pad)
        questions, which = torch.unique(questions, dim=0, return_inverse=True)
        place = torch.arange(int((totals - lengths).max()), device=ids.device)
        source = (lengths.unsqueeze(1) + place).clamp(max=ids.shape[1] - 1)
        beyond = place >= (totals - lengths).unsqueeze(1)
        passages = ids.gather(1, source).masked_fill(beyond, pad)
        passages = torch.cat([torch.full_like(ids[:, :1], start), passages], 1)
        if passages.shape[1] > PASSAGE_TOKENS:
            passages = passages[:, :PASSAGE_TOKENS].clone()
            cut = passages[:, -1] != pad
            passages[cut, -1] = self.tokenizer.sep_token_id
        return questions, which, passages


class StateMemory:
    """Token states of texts that a frozen encoder has read: the latest ones, up to so many bytes.

    The states of a passage do not depend on the question, so a passage that was read for one
    costs the head alone for the next. Kept as float16, and handed out as such whether they were
    kept or read just now, so that a score does not depend on what was asked before.

    On a CPU texts are read without padding, a few at a time by each core on its own.
    """

    def __init__(self, module: Interaction, most_bytes: float) -> None:
        """Remember nothing yet.

        Raises:
            ValueError: its encoder is of a kind that cannot be read so.
        """
        self._module, self._most = module, most_bytes
        self._kept: OrderedDict[bytes, list[Tensor]] = OrderedDict()
        self.bytes = 0.0
        # What is being read: what waits for the states of each text.
        self._begun: dict[bytes, Callable[[], list[Tensor]]] = {}
        self._packed: PackedEncoder | None = None
        if module.bert.device.type == "cpu":
            if not is_packable(module.bert):
                raise ValueError(f"{module.encoder} is no BERT model with GELU")
            self._packed, self._cores = PackedEncoder(module.bert), cores()

    def __call__(self, ids: Tensor) -> list[Tensor]:
        """States (n, t, d) per layer for token ids (n, t), as `Interaction.states` gives them."""
        self.begin(ids)
        keys = [row.tobytes() for row in self._rows(ids)]
        found: dict[bytes, list[Tensor]] = {}
        read: dict[bytes, list[Tensor]] = {}
        for key in dict.fromkeys(keys):
            if key in self._kept:
                self._kept.move_to_end(key)
                found[key] = self._kept[key]
            else:
                found[key] = read[key] = self._wait_for(key)
        for key, states in read.items():
            self._keep(key, states)
        padded = [
            nn.utils.rnn.pad_sequence(layer, batch_first=True)
            for layer in zip(*(found[key] for key in keys), strict=True)
        ]
        return [layer.to(ids.device).float() for layer in padded]

    def _wait_for(self, key: bytes) -> list[Tensor]:
        try:
            return self._begun.pop(key)()
        except BaseException:
            self._begun.clear()  # to be read anew by whoever asks for them
            raise

    def begin(self, ids: Tensor) -> int:
        """Let the cores read those of texts (n, t) that are not known; returns their number."""
        unread = {
            key: row
            for row in self._rows(ids)
            if (key := row.tobytes()) not in self._kept and key not in self._begun
        }
        if unread:
            states = cache(self._reading(list(unread.values())))
            for n, key in enumerate(unread):
                self._begun[key] = partial(_nth, states, n)
        return len(unread)

    def _rows(self, ids: Tensor) -> list[NDArray[np.int64]]:
        """The token ids (t,) of each text (n, t), without padding."""
        lengths = (ids != self._module.tokenizer.pad_token_id).sum(1).tolist()
        return [row[:length].cpu().numpy() for row, length in zip(ids, lengths, strict=True)]

    def _reading(self, rows: Sequence[NDArray[np.int64]]) -> Callable[[], list[list[Tensor]]]:
        """Begin to read texts of t token ids; what waits for their states (t, d) per layer, as
        float16."""
        if self._packed is None:
            return partial(self._read_at_once, rows)
        encoder, depths = self._packed, self._module.layers
        shares = self._cores.shares([len(row) for row in rows])
        packs = [_of_one_side([rows[n] for n in share]) for share in shares]
        wait = self._cores.begin(
            lambda pack: [layer.half() for layer in encoder.states_after(depths, pack)], packs
        )

        def by_text() -> list[list[Tensor]]:
            found: list[list[Tensor]] = [[] for _ in rows]
            for share, pack, layers in zip(shares, packs, wait(), strict=True):
                split = [layer.split(list(pack.cuts.lengths)) for layer in layers]
                for place, n in enumerate(share):
                    # A copy, or one text would keep the memory of all that were read with it.
                    found[n] = [layer[place].clone() for layer in split]
            return found

        return by_text

    def _read_at_once(self, rows: Sequence[NDArray[np.int64]]) -> list[list[Tensor]]:
        ids = nn.utils.rnn.pad_sequence(
            [torch.from_numpy(row) for row in rows],
            batch_first=True,
            padding_value=self._module.tokenizer.pad_token_id,
        ).to(self._module.bert.device)
        layers = self._module.states(ids)
        return [
            [layer[n, : len(row)].half().cpu() for layer in layers] for n, row in enumerate(rows)
        ]

    def _keep(self, key: bytes, states: list[Tensor]) -> None:
        self._kept[key] = states
        self.bytes += _bytes(states)
        while self.bytes > self._most:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= _bytes(oldest)


def _nth(states: Callable[[], list[list[Tensor]]], n: int) -> list[Tensor]:
    return states()[n]


def _of_one_side(rows: Sequence[NDArray[np.int64]]) -> Pack:
    return Pack.of(rows, [np.zeros_like(row) for row in rows], step=ROWS_STEP)


def _bytes(states: list[Tensor]) -> int:
    return sum(layer.numel() * layer.element_size() for layer in states)


class Head(nn.Module):
    """The trained part: from the states of both sides to one logit."""

    inverse_frequency: Tensor

    def __init__(self, vocabulary: int, width: int, *, layers: int, window: int, rank: int) -> None:
        super().__init__()
        self.window = window
        self.register_buffer("inverse_frequency", torch.ones(vocabulary))
        self.changes = nn.ModuleList(_Change(width, rank) for _ in range(layers))
        self.frequency_weight = nn.Parameter(torch.tensor(1.0))
        self.telling = nn.Linear(width, 1)
        matched = layers + 2 + len(STATE_KERNELS) + len(WORD_KERNELS)
        self.straight, self.bent = nn.Linear(matched, 1), _perceptron(matched, 32)
        self.mix = nn.Parameter(torch.tensor([*[0.2] * (layers - 1), 0.5, 0.3]))
        self.asks, self.offers = nn.Linear(width, 48), nn.Linear(width, 48)
        self.parts = nn.Parameter(torch.tensor([10.0, 10.0, 5.0, 0.0]))
        self.whole = _perceptron(6, 24)
        for layer in (self.telling, self.straight, self.offers):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.asks.weight, std=0.05)
        with torch.no_grad():
            self.straight.weight[0, : layers + 1] = self.mix

    def forward(
        self,
        table: Tensor,
        question: tuple[Tensor, Tensor, list[Tensor]],
        passage: tuple[Tensor, Tensor, list[Tensor]],
    ) -> Tensor:
        """Logits (n,) of n pairs.

        Args:
            table: word embeddings (vocabulary, d) of the encoder, without positions.
            question: ids (n, t), words (n, t), states (n, t, d) per layer.
            passage: the same with (n, u).
        """
        (asked_ids, asked, asked_states), (ids, words, states) = question, passage
        changed = [
            (change(a), change(b))
            for change, a, b in zip(self.changes, asked_states, states, strict=True)
        ]
        changed.append((_unit(table[asked_ids]), _unit(table[ids])))
        there = asked.unsqueeze(2) & words.unsqueeze(1)
        cosines = [(a @ b.transpose(1, 2)).masked_fill(~there, ABSENT) for a, b in changed]
        weights = self._weights(asked_ids, asked, asked_states[-1])
        best = [cosine.amax(2) for cosine in cosines]
        by_token = self._by_token(cosines, best, there)
        tokens = (by_token * weights).sum(1)
        asked_mean = _mean(changed[-2][0], asked)
        whole = (_unit(_mean(changed[-2][1], words)) * _unit(asked_mean)).sum(1)
        gist = (asked_states[-1] * weights.unsqueeze(2)).sum(1)
        window = self._window(cosines, weights, words, gist, states[-1])
        length = words.sum(1).float().log() - 4.5
        parts = torch.stack([tokens, whole, window, length], 1)
        means = [_mean(best[n].unsqueeze(2), asked).squeeze(1) for n in (-2, -1)]
        bent = self.whole(torch.cat([parts, torch.stack(means, 1)], 1)).squeeze(1)
        return (parts * self.parts).sum(1) + bent

    def _weights(self, ids: Tensor, asked: Tensor, states: Tensor) -> Tensor:
        """How much each token of the question tells, (n, t) summing to 1."""
        raw = self.frequency_weight * self.inverse_frequency[ids] + self.telling(states).squeeze(2)
        weights = functional.softplus(raw).masked_fill(~asked, 0.0)
        return weights / weights.sum(1, keepdim=True)

    def _by_token(self, cosines: list[Tensor], best: list[Tensor], there: Tensor) -> Tensor:
        """How well each token of the question is met, (n, t)."""
        top = cosines[-2].topk(min(3, cosines[-2].shape[2]), dim=2).values.mean(2)
        matches = [*best, top]
        for cosine, centres in ((cosines[-2], STATE_KERNELS), (cosines[-1], WORD_KERNELS)):
            for centre in centres:
                spread = NARROW if centre == 1.0 else WIDE
                near = torch.exp(-((cosine - centre) ** 2) / (2 * spread**2)) * there
                matches.append(torch.log1p(near.sum(2)))
        features = torch.stack(matches, 2)
        return (self.straight(features) + self.bent(features)).squeeze(2)

    def _window(
        self,
        cosines: list[Tensor],
        weights: Tensor,
        words: Tensor,
        gist: Tensor,
        states: Tensor,
    ) -> Tensor:
        """How well the best window of the passage meets the question as a whole, (n,)."""
        mixed = sum(share * cosine for share, cosine in zip(self.mix, cosines, strict=True))
        near = functional.max_pool1d(mixed, self.window, 1, self.window // 2)
        covered = (near * weights.unsqueeze(2)).sum(1)
        offered = (self.offers(states) * self.asks(gist).unsqueeze(1)).sum(2)
        scores = (WINDOW_SHARPNESS * covered + offered).masked_fill(~words, -1e4)
        return torch.logsumexp(scores, 1) / WINDOW_SHARPNESS


class _Change(nn.Module):
    """States (…, d) with a learned change of low rank, as unit vectors; none before training."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width, bias=False)
        nn.init.normal_(self.down.weight, std=width**-0.5)
        nn.init.zeros_(self.up.weight)

    def forward(self, states: Tensor) -> Tensor:
        return _unit(states + self.up(self.down(states)))


def _perceptron(inputs: int, hidden: int) -> nn.Sequential:
    """One hidden layer and one output, 0 before training."""
    last = nn.Linear(hidden, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), last)


def _unit(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors, dim=-1)


def _mean(values: Tensor, kept: Tensor) -> Tensor:
    """Mean over the second axis of (n, t, d) where `kept` (n, t)."""
    share = kept.unsqueeze(2).to(values.dtype)
    return (values * share).sum(1) / share.sum(1)
