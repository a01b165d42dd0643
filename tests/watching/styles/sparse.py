"""Sparse gradients of an embedding with an optimizer of their own, and word vectors with negative samples."""

import torch
from torch import nn

torch.manual_seed(52)
embedding, output = nn.Embedding(30, 6, sparse=True), nn.Linear(6, 30)
sparse_optimizer = torch.optim.SparseAdam(embedding.parameters(), lr=0.01)
dense_optimizer = torch.optim.Adam(output.parameters(), lr=0.01)
for step in range(8):
    words, context = torch.randint(0, 30, (10,)), torch.randint(0, 30, (10,))
    sparse_optimizer.zero_grad()
    dense_optimizer.zero_grad()
    loss = nn.functional.cross_entropy(output(embedding(words)), context)
    loss.backward()
    sparse_optimizer.step()
    dense_optimizer.step()
    print(step, loss.item())
vectors, contexts = nn.Embedding(30, 6, sparse=True), nn.Embedding(30, 6, sparse=True)
optimizer = torch.optim.SGD([*vectors.parameters(), *contexts.parameters()], lr=0.1)
for step in range(8):
    words, others, negative = torch.randint(0, 30, (3, 10))
    score = (vectors(words) * contexts(others)).sum(dim=1)
    against = (vectors(words) * contexts(negative)).sum(dim=1)
    loss = -(nn.functional.logsigmoid(score) + nn.functional.logsigmoid(-against)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, loss.item())
