"""A deep Q network: a target net that follows slowly, actions under no_grad, nothing learned at first."""

import random
from collections import deque

import torch
from torch import nn

random.seed(0)
torch.manual_seed(15)
policy_net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))
target_net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))
target_net.load_state_dict(policy_net.state_dict())
optimizer = torch.optim.AdamW(policy_net.parameters(), lr=1e-3, amsgrad=True)
memory = deque([], maxlen=100)


def select_action(state):
    if random.random() > 0.3:
        with torch.no_grad():
            return policy_net(state).max(0).indices.item()
    return random.randrange(2)


def optimize_model():
    if len(memory) < 8:
        return
    states, actions, rewards, following = zip(*random.sample(memory, 8), strict=True)
    states, following = torch.stack(states), torch.stack(following)
    state_action_values = policy_net(states).gather(1, torch.tensor(actions).unsqueeze(1))
    with torch.no_grad():
        next_state_values = target_net(following).max(1).values
    expected = next_state_values * 0.9 + torch.tensor(rewards)
    loss = nn.SmoothL1Loss()(state_action_values, expected.unsqueeze(1))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_value_(policy_net.parameters(), 100)
    optimizer.step()
    print(loss.item())


state = torch.randn(3)
for _ in range(30):
    action = select_action(state)
    following = torch.randn(3)
    memory.append((state, action, float(action == (state[0] > 0)), following))
    state = following
    optimize_model()
    target, own = target_net.state_dict(), policy_net.state_dict()
    target_net.load_state_dict({key: own[key] * 0.05 + target[key] * 0.95 for key in own})
