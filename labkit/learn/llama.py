"""The `llama` recipe: a small Llama of our own, as a base model for fine-tuning.

The architecture is transformers' own `LlamaForCausalLM`, so that what this recipe trains can be quantised, given LoRA
adapters and loaded by anything that reads Hugging Face models. Muon for the matrices of the blocks, Adam for the
embedding, the gains and the output map. Blocks start as the identity and logits at zero, as in
`labkit.learn.transformer`. Left open: the recipe is made for bases that are pre-trained for minutes, not for a study's
sweeps (no fleets).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from labkit.learn.encoding import ANSWER, PAD, SEPARATOR
from labkit.learn.fast import Muon
from labkit.learn.fast import schedule as schedule  # the recipe's own, too
from labkit.learn.paper import HubModel
from labkit.learn.transformer import Shape

VERSION = 1  # raised when the same settings come to train another model
LEARNING_RATE = 0.01  # of Muon; Adam's is in fixed ratio to it
ADAM_RATIO = 0.2
EXPANSION = 1
ROPE_THETA = 100.0  # sequences are tens of tokens long, not thousands
UNKNOWN = "<unk>"  # the token of every symbol outside the vocabulary, and the filling of batches
FLEET = False  # transformers' model is one model
BRANCHES = False  # a copy of the optimiser would update views of the weights that it was copied from
QUESTION = "{{ message.instruction ~ sep ~ message.input if message.input is defined else message.content }}"
TEMPLATE = (
    f"{{% set sep = '{SEPARATOR}' %}}{{% for message in messages %}}{{% if message.role == 'user' %}}{QUESTION}{ANSWER}"
    f"{{% else %}}{{{{ message.content }}}}{PAD}{{% endif %}}{{% endfor %}}"
)


class Llama(HubModel):
    """transformers' Llama at the given sizes, of which `context` plays no part."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM

        self.shape = shape
        self.llama = LlamaForCausalLM(LlamaConfig(
            vocab_size=shape.vocabulary, max_position_embeddings=shape.length, num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads, hidden_size=shape.width, tie_word_embeddings=False,
            intermediate_size=max(1, shape.expansion) * shape.width,  # the perceptron has one width at least
            rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA}, bos_token_id=None, eos_token_id=None,
        ))  # fmt: skip
        nn.init.normal_(self.llama.model.embed_tokens.weight)
        nn.init.zeros_(self.llama.lm_head.weight)
        for layer in self.llama.model.layers:
            for linear in (m for m in layer.modules() if isinstance(m, nn.Linear)):
                nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
            nn.init.zeros_(layer.self_attn.o_proj.weight)
            nn.init.zeros_(layer.mlp.down_proj.weight)

    def parts(self) -> tuple[nn.Module, nn.Module]:
        return self.llama.model, self.llama.lm_head


build = Llama


def export(model: Llama, vocabulary: str, folder: Path) -> None:
    """Write model and tokenizer as a Hugging Face model, loadable by `AutoModelForCausalLM` and `AutoTokenizer`.

    A token is a symbol. The chat template writes questions in the layout that the model was trained on: an instruction
    `x|y` with an input `z` becomes `x|y|z=`, and the answer ends with `PAD`, which is the end-of-sequence token.

    Args:
        vocabulary: The symbol of each token but the last; the last token of the model is `UNKNOWN`.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = Tokenizer(models.WordLevel({symbol: i for i, symbol in enumerate([*vocabulary, UNKNOWN])}, UNKNOWN))
    tokens.pre_tokenizer = pre_tokenizers.Split(Regex("(?m:.)"), "isolated")
    tokens.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, unk_token=UNKNOWN, pad_token=UNKNOWN, eos_token=PAD,
                                        model_max_length=model.shape.length, chat_template=TEMPLATE,
                                        clean_up_tokenization_spaces=False)  # fmt: skip
    for config in (model.llama.config, model.llama.generation_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


class Optimiser:
    """Muon and Adam behind one `step`."""

    def __init__(self, model: Llama, rates: Sequence[float]) -> None:
        self.rates = torch.tensor(rates, device=model.llama.device)
        self.matrices = [p for p in model.llama.model.layers.parameters() if p.ndim == 2]
        self.views = [nn.Parameter(p.data[None]) for p in self.matrices]  # a fleet of one, as Muon has it
        self.muon = Muon(self.views, model.shape.width)
        others = [p for p in model.parameters() if all(p is not matrix for matrix in self.matrices)]
        self.adam = torch.optim.Adam(others, lr=0.0, betas=(0.8, 0.95), fused=True)

    def step(self, _: int, factors: Sequence[float]) -> None:
        """Update the weights by their gradients, at the rate times the factor, and clear these."""
        rates = self.rates * torch.tensor(factors).to(self.rates.device, non_blocking=True)
        with torch.no_grad():
            for view, matrix in zip(self.views, self.matrices, strict=True):
                view.grad, matrix.grad = matrix.grad[None], None
            self.muon.step(rates)
        self.adam.param_groups[0]["lr"] = ADAM_RATIO * float(rates)
        self.adam.step()
        self.adam.zero_grad()
