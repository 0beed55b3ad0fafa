"""Wasserstein GAN with gradient penalty (Gulrajani et al. 2017), as the usual scripts write it."""

import torch
import torch.autograd as autograd
import torch.nn as nn
from torch import optim
from torch.autograd import Variable

BATCH, DIM, LAMBDA, CRITIC = 8, 12, 0.1, 2


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(2, DIM), nn.ReLU(True), nn.Linear(DIM, DIM), nn.ReLU(True), nn.Linear(DIM, 2)
        )

    def forward(self, noise):
        return self.main(noise)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(2, DIM), nn.Tanh(), nn.Linear(DIM, DIM), nn.Softplus(), nn.Linear(DIM, 1)
        )

    def forward(self, inputs):
        return self.main(inputs).view(-1)


def calc_gradient_penalty(net_d, real_data, fake_data, random):
    alpha = torch.from_numpy(random.random((BATCH, 1)))
    alpha = alpha.expand(real_data.size())
    interpolates = alpha * real_data + ((1 - alpha) * fake_data)
    interpolates = autograd.Variable(interpolates, requires_grad=True)
    disc_interpolates = net_d(interpolates)
    gradients = autograd.grad(
        outputs=disc_interpolates,
        inputs=interpolates,
        grad_outputs=torch.ones_like(disc_interpolates),
        create_graph=True,
        retain_graph=True,
        only_inputs=True,
    )[0]
    return ((gradients.norm(2, dim=1) - 1) ** 2).mean() * LAMBDA


def main(random, start):
    net_g, net_d = start(Generator()), start(Discriminator())
    optimizer_d = optim.Adam(net_d.parameters(), lr=1e-3, betas=(0.5, 0.9))
    optimizer_g = optim.Adam(net_g.parameters(), lr=1e-3, betas=(0.5, 0.9))
    losses = []
    for _ in range(5):
        for p in net_d.parameters():
            p.requires_grad = True
        for _ in range(CRITIC):
            real = Variable(torch.from_numpy(random.standard_normal((BATCH, 2)) + 2))
            net_d.zero_grad()
            d_real = net_d(real).mean()
            noise = torch.from_numpy(random.standard_normal((BATCH, 2)))
            fake = Variable(net_g(noise).data)
            d_fake = net_d(fake).mean()
            gradient_penalty = calc_gradient_penalty(net_d, real.data, fake.data, random)
            d_cost = d_fake - d_real + gradient_penalty
            d_cost.backward()
            optimizer_d.step()
            losses.append(d_cost.item())
        for p in net_d.parameters():
            p.requires_grad = False
        net_g.zero_grad()
        noise = torch.from_numpy(random.standard_normal((BATCH, 2)))
        g_cost = -net_d(net_g(noise)).mean()
        g_cost.backward()
        optimizer_g.step()
        losses.append(g_cost.item())
    return losses
