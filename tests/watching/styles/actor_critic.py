"""PPO with an actor and a critic: a rollout under no_grad in train mode, then several epochs on it."""

import torch
from torch import nn
from torch.distributions import Categorical

torch.manual_seed(14)
actor = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2))
critic = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.Adam([{"params": actor.parameters(), "lr": 3e-3}, {"params": critic.parameters(), "lr": 1e-2}])
for update in range(4):
    states = torch.randn(12, 3)
    with torch.no_grad():
        old = Categorical(logits=actor(states))
        actions = old.sample()
        old_log_probs = old.log_prob(actions)
        values = critic(states).squeeze(1)
    rewards = (actions == (states[:, 0] > 0)).float()
    advantages = rewards - values
    for _ in range(3):
        for index in torch.randperm(12).split(4):
            new = Categorical(logits=actor(states[index]))
            ratio = (new.log_prob(actions[index]) - old_log_probs[index]).exp()
            a = advantages[index]
            policy_loss = -torch.min(ratio * a, ratio.clamp(0.8, 1.2) * a).mean()
            value_loss = nn.functional.mse_loss(critic(states[index]).squeeze(1), rewards[index])
            loss = policy_loss + 0.5 * value_loss - 0.01 * new.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([*actor.parameters(), *critic.parameters()], 0.5)
            optimizer.step()
    print(update, loss.item(), rewards.mean().item())
