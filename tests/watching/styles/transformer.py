"""A small transformer that continues text: batches of random places, an estimate of both losses now and then."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(55)
data = torch.randint(0, 12, (200,))
train_data, val_data = data[:160], data[160:]


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.place = nn.Embedding(12, 8), nn.Embedding(6, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 12, bias=False)

    def forward(self, idx, targets=None):
        size = idx.size(1)
        mask = nn.Transformer.generate_square_subsequent_mask(size)
        x = self.blocks(self.token(idx) + self.place(torch.arange(size)), mask=mask, is_causal=True)
        logits = self.head(x)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.view(-1, 12), targets.view(-1))

    @torch.no_grad()
    def generate(self, idx, count):
        for _ in range(count):
            logits, _ = self(idx[:, -6:])
            idx = torch.cat((idx, torch.multinomial(F.softmax(logits[:, -1], dim=-1), 1)), dim=1)
        return idx


def get_batch(split):
    source = train_data if split == "train" else val_data
    ix = torch.randint(len(source) - 6, (4,))
    return torch.stack([source[i : i + 6] for i in ix]), torch.stack([source[i + 1 : i + 7] for i in ix])


model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)


@torch.no_grad()
def estimate_loss():
    model.eval()
    out = {split: sum(model(*get_batch(split))[1].item() for _ in range(2)) for split in ("train", "val")}
    model.train()
    return out


for step in range(8):
    if step % 4 == 0:
        print(step, estimate_loss())
    logits, loss = model(*get_batch("train"))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
print(model.generate(torch.zeros((1, 1), dtype=torch.long), 5))
