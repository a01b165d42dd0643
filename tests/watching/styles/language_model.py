"""A recurrent language model with truncated backpropagation through time, steps by hand, and a falling rate."""

import torch
from torch import nn


class RNNModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.2)
        self.encoder = nn.Embedding(20, 8)
        self.rnn = nn.LSTM(8, 8, 1)
        self.decoder = nn.Linear(8, 20)

    def forward(self, tokens, hidden):
        output, hidden = self.rnn(self.drop(self.encoder(tokens)), hidden)
        return self.decoder(self.drop(output)).view(-1, 20), hidden

    def init_hidden(self, size):
        weight = next(self.parameters())
        return weight.new_zeros(1, size, 8), weight.new_zeros(1, size, 8)


def repackage_hidden(h):
    return h.detach() if isinstance(h, torch.Tensor) else tuple(repackage_hidden(v) for v in h)


torch.manual_seed(12)
corpus, held_out = torch.randint(0, 20, (41, 4)), torch.randint(0, 20, (21, 4))
model, criterion, lr = RNNModel(), nn.CrossEntropyLoss(), 2.0


def get_batch(source, i):
    length = min(5, len(source) - 1 - i)
    return source[i : i + length], source[i + 1 : i + 1 + length].reshape(-1)


def evaluate(source):
    model.eval()
    total, hidden = 0.0, model.init_hidden(4)
    with torch.no_grad():
        for i in range(0, source.size(0) - 1, 5):
            data, targets = get_batch(source, i)
            output, hidden = model(data, hidden)
            total += len(data) * criterion(output, targets).item()
    return total / (len(source) - 1)


for epoch in range(3):
    model.train()
    hidden = model.init_hidden(4)
    for i in range(0, corpus.size(0) - 1, 5):
        data, targets = get_batch(corpus, i)
        model.zero_grad()
        hidden = repackage_hidden(hidden)
        output, hidden = model(data, hidden)
        loss = criterion(output, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        for p in model.parameters():
            p.data.add_(p.grad, alpha=-lr)
    lr /= 2
    print(epoch, loss.item(), evaluate(held_out))
