"""The lesson: everything at the top of one file."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
images, labels = torch.randn(96, 1, 4, 4), torch.randint(0, 3, (96,))
train_dataset, test_dataset = TensorDataset(images[:64], labels[:64]), TensorDataset(images[64:], labels[64:])
train_loader = DataLoader(train_dataset, batch_size=8, shuffle=True)
test_loader = DataLoader(test_dataset, batch_size=8, shuffle=False)


class MLP(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super().__init__()
        self.fc1 = nn.Linear(input_size, hidden_size)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(hidden_size, output_size)

    def forward(self, x):
        return self.fc2(self.relu(self.fc1(x)))


model = MLP(input_size=16, hidden_size=8, output_size=3)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

for epoch in range(2):
    model.train()
    for batch, (images, labels) in enumerate(train_loader):
        images = images.view(-1, 16)
        optimizer.zero_grad()
        outputs = model(images)
        loss = loss_fn(outputs, labels)
        loss.backward()
        optimizer.step()
        if batch % 4 == 0:
            print(f"Epoch: {epoch + 1}/2 | Batch: {batch}/{len(train_loader)} | Loss: {loss.item()}")

    model.eval()
    correct = total = 0
    with torch.no_grad():
        for images, labels in test_loader:
            outputs = model(images.view(-1, 16))
            correct += (outputs.argmax(dim=1) == labels).sum().item()
            total += labels.size(0)
    print(f"Accuracy: {correct / total}")
