"""Temperature scaling (Guo et al. 2017) of a trained classifier by L-BFGS."""

import torch
from torch import nn, optim
from torch.nn import functional as F


class ModelWithTemperature(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model
        self.temperature = nn.Parameter(torch.ones(1, dtype=torch.float64) * 1.5)

    def forward(self, input):
        return self.temperature_scale(self.model(input))

    def temperature_scale(self, logits):
        temperature = self.temperature.unsqueeze(1).expand(logits.size(0), logits.size(1))
        return logits / temperature

    def set_temperature(self, valid_loader):
        nll_criterion, ece_criterion = nn.CrossEntropyLoss(), _ECELoss()
        logits_list, labels_list = [], []
        with torch.no_grad():
            for input, label in valid_loader:
                logits_list.append(self.model(input))
                labels_list.append(label)
            logits, labels = torch.cat(logits_list), torch.cat(labels_list)
        told = [nll_criterion(logits, labels).item(), ece_criterion(logits, labels).item()]
        optimizer = optim.LBFGS([self.temperature], lr=0.01, max_iter=50)

        def eval():
            optimizer.zero_grad()
            loss = nll_criterion(self.temperature_scale(logits), labels)
            loss.backward()
            return loss

        optimizer.step(eval)
        scaled = self.temperature_scale(logits)
        told += [nll_criterion(scaled, labels).item(), ece_criterion(scaled, labels).item()]
        return [*told, self.temperature.item()]


class _ECELoss(nn.Module):
    def __init__(self, n_bins=15):
        super().__init__()
        bin_boundaries = torch.linspace(0, 1, n_bins + 1)
        self.bin_lowers, self.bin_uppers = bin_boundaries[:-1], bin_boundaries[1:]

    def forward(self, logits, labels):
        softmaxes = F.softmax(logits, dim=1)
        confidences, predictions = torch.max(softmaxes, 1)
        accuracies = predictions.eq(labels)
        ece = torch.zeros(1)
        for bin_lower, bin_upper in zip(self.bin_lowers, self.bin_uppers):
            in_bin = confidences.gt(bin_lower.item()) * confidences.le(bin_upper.item())
            prop_in_bin = in_bin.float().mean()
            if prop_in_bin.item() > 0:
                accuracy_in_bin = accuracies[in_bin].float().mean()
                avg_confidence_in_bin = confidences[in_bin].mean()
                ece += torch.abs(avg_confidence_in_bin - accuracy_in_bin) * prop_in_bin
        return ece


def main(random, start):
    model = start(nn.Linear(6, 4))
    loader = [
        (torch.from_numpy(3 * random.standard_normal((20, 6))), torch.from_numpy(random.integers(0, 4, 20)))
        for _ in range(3)
    ]
    return ModelWithTemperature(model).set_temperature(loader)
