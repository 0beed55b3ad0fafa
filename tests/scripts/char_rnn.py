"""A character model by an LSTM, with truncated backpropagation and clipping."""

import numpy as np
import torch
import torch.nn as nn

TEXT = "the quick brown fox jumps over the lazy dog while five wizards box with jugs of liquor " * 2


class CharRNN(nn.Module):
    def __init__(self, tokens, n_hidden=10, n_layers=2):
        super().__init__()
        self.n_layers, self.n_hidden = n_layers, n_hidden
        self.encoder = nn.Embedding(tokens, 6)
        self.lstm = nn.LSTM(6, n_hidden, n_layers, dropout=0.0, batch_first=True)
        self.fc = nn.Linear(n_hidden, tokens)

    def forward(self, x, hidden):
        r_output, hidden = self.lstm(self.encoder(x), hidden)
        out = r_output.contiguous().view(-1, self.n_hidden)
        return self.fc(out), hidden

    def init_hidden(self, batch_size):
        weight = next(self.parameters()).data
        return (
            weight.new(self.n_layers, batch_size, self.n_hidden).zero_(),
            weight.new(self.n_layers, batch_size, self.n_hidden).zero_(),
        )


def main(random, start):
    chars = tuple(sorted(set(TEXT)))
    char2int = {ch: i for i, ch in enumerate(chars)}
    encoded = np.array([char2int[ch] for ch in TEXT])[:161]
    net = start(CharRNN(len(chars)))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    criterion = nn.CrossEntropyLoss()
    net.train()
    x, y = encoded[:-1].reshape(2, -1), encoded[1:].reshape(2, -1)
    h = net.init_hidden(2)
    losses = []
    for n in range(0, 80, 8):
        inputs, targets = torch.from_numpy(x[:, n : n + 8].copy()), torch.from_numpy(y[:, n : n + 8].copy())
        h = tuple([each.data for each in h])
        net.zero_grad()
        output, h = net(inputs, h)
        loss = criterion(output, targets.view(2 * 8).long())
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    return losses
