"""Actor-critic (Sutton & Barto, chapter 13) on a random walk, as PyTorch's sample writes it."""

from collections import namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.distributions import Categorical

SavedAction = namedtuple("SavedAction", ["log_prob", "value"])


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.affine1 = nn.Linear(4, 16)
        self.action_head = nn.Linear(16, 2)
        self.value_head = nn.Linear(16, 1)
        self.saved_actions = []
        self.rewards = []

    def forward(self, x):
        x = F.relu(self.affine1(x))
        action_prob = F.softmax(self.action_head(x), dim=-1)
        state_values = self.value_head(x)
        return action_prob, state_values


def select_action(model, state, random):
    state = torch.from_numpy(state)
    probs, state_value = model(state)
    m = Categorical(probs)
    action = torch.tensor(int(random.random() < m.probs[1].item()))
    model.saved_actions.append(SavedAction(m.log_prob(action), state_value))
    return action.item(), m.entropy().item()


def finish_episode(model, optimizer):
    r, policy_losses, value_losses, returns = 0, [], [], []
    for reward in model.rewards[::-1]:
        r = reward + 0.99 * r
        returns.insert(0, r)
    returns = torch.tensor(returns, dtype=torch.float64)
    returns = (returns - returns.mean()) / (returns.std() + 1e-8)
    for (log_prob, value), r in zip(model.saved_actions, returns):
        advantage = r - value.item()
        policy_losses.append(-log_prob * advantage)
        value_losses.append(F.smooth_l1_loss(value, torch.tensor([r], dtype=torch.float64)))
    optimizer.zero_grad()
    loss = torch.stack(policy_losses).sum() + torch.stack(value_losses).sum()
    loss.backward()
    optimizer.step()
    del model.rewards[:]
    del model.saved_actions[:]
    return loss.item()


def main(random, start):
    model = start(Policy())
    optimizer = optim.Adam(model.parameters(), lr=3e-2)
    losses = []
    for _ in range(10):
        state, entropy = random.standard_normal(4), 0.0
        for _ in range(12):
            action, h = select_action(model, state, random)
            state = 0.9 * state + random.standard_normal(4) + (action - 0.5)
            model.rewards.append(float(-np.abs(state).sum()))
            entropy += h
        losses += [finish_episode(model, optimizer), entropy]
    return losses
