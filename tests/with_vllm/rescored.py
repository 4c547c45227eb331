"""`replication.fit` with vLLM's ids and torch's numbers: what vLLM measures is replaced by plain forward passes."""

from dataclasses import dataclass

import torch

from replication import fit
from replication.errors import run_command
from replication.rollout.uncertainty import MEASURES
from replication.rollout.vllm.engine import VLLMEngine


@dataclass
class Rescored:
    """A session of vLLM's, whose pieces get the numbers of the model that is trained."""

    inner: object
    model: object

    def next(self):
        piece = self.inner.next()
        for i, row in enumerate(piece.rows.tolist() if piece else ()):
            size = int(piece.size[i])
            text = torch.tensor(self.inner.text[row])[None]
            logits = self.model(input_ids=text, use_cache=False).logits[0, -size - 1 : -1].float()
            logp = torch.log_softmax(logits / self.inner.rollout.temperature, -1)
            tokens = piece.tokens[i, :size]
            piece.logp[i, :size] = logp.gather(1, tokens[:, None]).squeeze(1)
            for name, values in piece.measured.items():
                values[i, :size] = MEASURES[name](logp, tokens)
        return piece

    def __getattr__(self, name):
        return getattr(self.inner, name)


opened = VLLMEngine.open
VLLMEngine.open = lambda self, *args, **kwargs: Rescored(opened(self, *args, **kwargs), self.model)

if __name__ == "__main__":
    run_command(fit.main)
