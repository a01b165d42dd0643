"""Accelerate: gradient accumulation, clipping and a schedule, all prepared by the Accelerator."""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from frameworks_data import net, report, test_set, train_set

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
torch.manual_seed(0)
model = net()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
train_loader = DataLoader(train_set(), batch_size=8, shuffle=True)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=len(train_loader))
model, optimizer, train_loader, test_loader, scheduler = accelerator.prepare(
    model, optimizer, train_loader, DataLoader(test_set(), batch_size=8), scheduler
)
losses = []
for _ in range(2):
    model.train()
    for inputs, labels in train_loader:
        with accelerator.accumulate(model):
            loss = nn.functional.cross_entropy(model(inputs), labels)
            accelerator.backward(loss)
            losses.append(loss.item())
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    model.eval()
    for inputs, labels in test_loader:
        with torch.no_grad():
            outputs = accelerator.gather_for_metrics(model(inputs))
        losses.append(nn.functional.cross_entropy(outputs, labels).item())
report(model, losses)
