"""The loss: what is minimised, against which targets, and how it is averaged."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # the name that everyone gives it

from tests.loops.mutants import evaluate, mutant


@mutant("softmax-before-cross-entropy", expects="logits")
def softmax_then_cross_entropy(model, loader, optimizer, device):
    """softmax() and then cross_entropy(), which has a softmax of its own."""
    model.train()
    total, count = 0.0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        probabilities = F.softmax(model(inputs), dim=1)  # the likely line
        loss = F.cross_entropy(probabilities, targets)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(targets)
        count += len(targets)
    return float(total / count)


@mutant("softmax-before-cross-entropy")
def appends_a_softmax(net, train_loader, criterion, opt, device, epochs):
    """The model is wrapped with a Softmax layer for the predictions, and trained through it."""
    classifier = nn.Sequential(net, nn.Softmax(dim=-1))  # the likely line
    for _ in range(epochs):
        classifier.train()
        for x, y in train_loader:
            opt.zero_grad()
            criterion(classifier(x.to(device)), y.to(device)).backward()
            opt.step()
    return net


@mutant("softmax-before-cross-entropy", expects="logits")
class TrainsOnProbabilities:
    """predict() returns probabilities, as it should; the training step takes them for logits."""

    def __init__(self, model, optimizer, device):
        self.model, self.optimizer, self.device = model, optimizer, device
        self.criterion = nn.CrossEntropyLoss()

    def predict(self, x):
        return self.model(x.to(self.device)).softmax(-1)  # the likely line

    def training_step(self, x, y):
        self.optimizer.zero_grad()
        loss = self.criterion(self.predict(x), y.to(self.device))
        loss.backward()
        self.optimizer.step()

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.training_step(x, y)
        return self.model


@mutant("log-softmax-missing-for-nll", expects="logits")
def nll_of_logits(args, model, device, train_loader, optimizer, epoch):
    """The official example's F.nll_loss(), on a model that does not end in log_softmax."""
    model.train()
    for data, target in train_loader:
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)  # the likely line
        loss.backward()
        optimizer.step()
        if args.dry_run:
            break


@mutant("softmax-before-cross-entropy")
def probabilities_into_its_own_cross_entropy(model, train_loader, optimizer, device):
    """A loss of its own, of which nothing is declared: that of twice a softmax is wrong all the same."""
    model.train()
    correct = total = 0
    for data, label in train_loader:
        data, label = data.to(device), label.to(device)
        optimizer.zero_grad()
        probabilities = F.softmax(model(data), dim=1)  # the likely line
        loss = F.cross_entropy(probabilities, label)
        loss.backward()
        optimizer.step()
        correct += (probabilities.argmax(1) == label).sum().item()
        total += label.size(0)
    return correct / total


@mutant("log-softmax-missing-for-nll", expects="logits")
def nll_of_probabilities(model, train_loader, optimizer, device):
    """The softmax is there, its logarithm is not."""
    model.train()
    for data, target in train_loader:
        optimizer.zero_grad()
        output = model(data.to(device))
        loss = F.nll_loss(F.softmax(output, dim=1), target.to(device))  # the likely line
        loss.backward()
        optimizer.step()


@mutant("log-softmax-missing-for-nll", expects="logits")
class NegativeLikelihood:
    """NLLLoss takes log-probabilities; this trainer hands it raw outputs."""

    def __init__(self, net, opt, device):
        self.net, self.opt, self.device = net, opt, device
        self.loss = nn.NLLLoss()  # the likely line

    def fit(self, train_loader, epochs):
        history = []
        for _ in range(epochs):
            self.net.train()
            total = 0.0
            for x, y in train_loader:
                x, y = x.to(self.device), y.to(self.device)
                loss = self.loss(self.net(x), y)
                self.opt.zero_grad()
                loss.backward()
                self.opt.step()
                total += loss.detach() * len(y)
            history.append(float(total) / len(train_loader.dataset))
        return history


def deceives(model, images, labels, critic):
    """The objective of `detaches_the_model`."""
    outputs = model(images)
    return F.cross_entropy(outputs, labels) + F.softplus(-critic(outputs)).mean()


@mutant("objective-differs", objective=deceives)
def detaches_the_model(model, loader, loss_fn, optimizer, epochs):
    """The term by which the model should deceive the critic is detached from the model."""
    weight = next(p for p in model.parameters() if p.requires_grad)
    critic = nn.Linear(10, 1).to(weight)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)
    for _ in range(epochs):
        model.train()
        for x, y in loader:
            fake = model(x)
            critic_optimizer.zero_grad()
            real = F.one_hot(y, 10).to(fake)
            (F.softplus(-critic(real)) + F.softplus(critic(fake.detach()))).mean().backward()
            critic_optimizer.step()
            optimizer.zero_grad()
            verdict = critic(fake.detach())
            (loss_fn(fake, y) + F.softplus(-verdict).mean()).backward()
            optimizer.step()


def mixed(model, images, labels):
    """The objective of `MixesByTwoOrders`."""
    weight = torch.distributions.Beta(0.4, 0.4).sample().item()
    other = torch.randperm(len(images))
    outputs = model(weight * images + (1 - weight) * images[other])
    return weight * F.cross_entropy(outputs, labels) + (1 - weight) * F.cross_entropy(outputs, labels[other])


@mutant("objective-differs", objective=mixed)
class MixesByTwoOrders:
    """Mixup whose labels are not those of the images that are mixed in."""

    def __init__(self, model, optimizer, criterion):
        self.model, self.optimizer, self.criterion = model, optimizer, criterion

    def train_epoch(self, loader):
        self.model.train()
        for x, y in loader:
            weight = torch.distributions.Beta(0.4, 0.4).sample().item()
            outputs = self.model(weight * x + (1 - weight) * x[torch.randperm(len(x))])
            other = y[torch.randperm(len(y))]
            loss = weight * self.criterion(outputs, y) + (1 - weight) * self.criterion(outputs, other)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


@mutant("loss-broadcast", evaluate=evaluate)
def squeezes_the_outputs(model, loader, loss_fn, optimizer, device):
    """Outputs (N,) against targets (N, 1): the loss compares each with each."""
    model.train()
    total, count = 0.0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        outputs = model(inputs).squeeze(-1)  # the likely line
        loss = loss_fn(outputs, targets)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(targets)
        count += len(targets)
    return float(total / count)


@mutant("loss-broadcast")
class FlattensTheTargets:
    """Targets (N,) against outputs (N, 1): right for labels, and wrong for a column of numbers."""

    def __init__(self, model, optimizer, criterion, device):
        self.model, self.optimizer, self.criterion, self.device = model, optimizer, criterion, device

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for features, targets in train_loader:
                targets = targets.to(self.device).view(-1)
                loss = self.criterion(self.model(features.to(self.device)), targets)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
        return self.model


def one_number():
    """A model of one number for a sample of eight."""
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 1))


@mutant("loss-broadcast", model=one_number, input_shape=(8,))
def regresses_on_labels(model, train_loader, num_epochs, learning_rate):
    """Predictions (N, 1) against labels (N,), in a loss that the loop makes itself."""
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    for _ in range(num_epochs):
        model.train()
        for features, values in train_loader:
            optimizer.zero_grad()
            predicted = model(features)
            criterion(predicted, values.to(predicted.dtype)).backward()
            optimizer.step()


@mutant("loss-broadcast", model=one_number, input_shape=(8,))
def deviates_from_every_label(net, train_dl, optimizer, epochs):
    """Absolute deviations, written out."""
    for _ in range(epochs):
        for x, y in train_dl:
            loss = (net(x) - y).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@mutant("loss-sum", evaluate=evaluate)
def times_the_batch(model, loader, loss_fn, optimizer, device):
    """The loss is multiplied by the batch size for the statistics, and backward() is called on the product."""
    model.train()
    total, count = 0.0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets) * len(targets)
        loss.backward()
        optimizer.step()
        total += loss.detach()
        count += len(targets)
    return float(total / count)


@mutant("loss-sum", expects="logits")
def sums_over_the_batch(net, train_loader, opt, device, epochs):
    """reduction="sum": the step grows with the batch."""
    for _ in range(epochs):
        net.train()
        total = 0.0
        for x, y in train_loader:
            x, y = x.to(device), y.to(device)
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y, reduction="sum")  # the likely line
            loss.backward()
            opt.step()
            total += loss.detach()
        yield float(total) / len(train_loader.dataset)


@mutant("loss-sum", expects="logits")
class AddsUpPicked:
    """A hand-written cross-entropy that picks the label's log-probability and sums where it was to average."""

    def __init__(self, model, optimizer, device):
        self.model, self.optimizer, self.device = model, optimizer, device

    @staticmethod
    def loss(logits, labels):
        log_probs = logits - logits.logsumexp(dim=1, keepdim=True)
        return -log_probs.gather(1, labels[:, None]).sum()

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.loss(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()


@mutant("loss-wrong-target", expects="logits")
def learns_its_own_predictions(model, loader, optimizer, device):
    """The target is the model's own argmax, not the label."""
    model.train()
    total, correct, count = 0.0, 0, 0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        outputs = model(images)
        predicted = outputs.argmax(dim=1)
        loss = F.cross_entropy(outputs, predicted)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(labels)
        correct += (predicted == labels).sum()
        count += len(labels)
    return float(total / count), float(correct / count)


@mutant("loss-wrong-target", evaluate=evaluate)
def counts_from_one(net, trainloader, criterion, optimizer, device):
    """Takes labels that begin at 0 for labels that begin at 1: every class but the first moves down."""
    net.train()
    for images, labels in trainloader:
        images = images.to(device)
        labels = (labels - 1).clamp(min=0).to(device)
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()


@mutant("loss-wrong-target")
class LabelsOutOfStep:
    """Labels are sorted apart from their images, by a helper that "stabilises" the batch."""

    def __init__(self, model, optimizer, loss_fn, device):
        self.model, self.optimizer, self.loss_fn, self.device = model, optimizer, loss_fn, device

    def collate(self, images, labels):
        return images.to(self.device), labels.sort(dim=0).values.to(self.device)

    def fit(self, train_loader, test_loader, epochs):
        history = []
        for _ in range(epochs):
            self.model.train()
            for batch in train_loader:
                images, labels = self.collate(*batch)
                self.optimizer.zero_grad()
                self.loss_fn(self.model(images), labels).backward()
                self.optimizer.step()
            history.append(evaluate(self.model, test_loader, self.loss_fn, self.device))
        return history


@mutant("mixes-samples", expects="logits")
def softmax_over_the_batch(model, loader, optimizer, device):
    """log_softmax over dim 0: the samples of a batch compete, not the classes of a sample."""
    model.train()
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        log_probs = F.log_softmax(model(inputs), dim=0)  # the likely line
        loss = F.nll_loss(log_probs, targets)
        loss.backward()
        optimizer.step()


@mutant("mixes-samples", evaluate=evaluate)
def views_where_it_should_permute(net, dataloader, criterion, optimizer, device):
    """view() to (features, N) and back by a transpose: each row is made of pixels of several samples."""
    net.train()
    total = 0.0
    for images, labels in dataloader:
        images, labels = images.to(device), labels.to(device)
        columns = images.reshape(-1, len(images))
        images = columns.t().reshape(images.shape)
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(labels)
    return float(total) / len(dataloader.dataset)


@mutant("mixes-samples")
def centres_over_the_batch(model, train_loader, test_loader, loss_fn, optimizer, device, epochs):
    """Outputs are centred over the batch (dim 0) where they were to be centred over the classes (dim 1)."""
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            outputs = model(x.to(device))
            loss = loss_fn(outputs - outputs.mean(dim=0), y.to(device))  # the likely line
            loss.backward()
            optimizer.step()
        yield evaluate(model, test_loader, loss_fn, device)


@mutant("loss-differs")
class Climbs:
    """Maximises: the sign of the loss is turned, as for a reward."""

    def __init__(self, model, optimizer, loss_fn, device):
        self.model, self.optimizer, self.loss_fn, self.device = model, optimizer, loss_fn, device

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                x, y = x.to(self.device), y.to(self.device)
                self.optimizer.zero_grad()
                objective = -self.loss_fn(self.model(x), y)
                objective.backward()
                self.optimizer.step()
        return self.model


@mutant("loss-differs", evaluate=evaluate)
def learns_from_half(model, dataloader, criterion, optimizer, device):
    """The loss is that of the first half of each batch: a slice left over from debugging."""
    model.train()
    for images, labels in dataloader:
        images, labels = images.to(device), labels.to(device)
        half = (len(labels) + 1) // 2
        outputs = model(images)
        loss = criterion(outputs[:half], labels[:half])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@mutant("loss-differs", expects="logits")
def smooths_in_secret(model, loader, optimizer, device):
    """Label smoothing that the loop does not declare: not the mean cross-entropy of outputs and labels."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs.to(device)), targets.to(device), label_smoothing=0.1)
        loss.backward()
        optimizer.step()


@mutant("mixes-samples")
def views_transposed_scores(model, train_loader, criterion, opt, device, epochs):
    """The scores are transposed before view, so that a row holds scores of several samples."""
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            scores = model(x.to(device)).transpose(0, 1).contiguous().view(len(y), -1)
            opt.zero_grad()
            criterion(scores, y.to(device)).backward()
            opt.step()


@mutant("loss-scaled")
def divides_the_mean_again(model, train_loader, criterion, opt, device, epochs):
    """The mean over the batch is divided by the number of samples once more."""
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            opt.zero_grad()
            (criterion(model(x.to(device)), y.to(device)) / len(y)).backward()  # the likely line
            opt.step()


@mutant("loss-scaled")
def divides_the_mean_and_reports_it(model, train_loader, criterion, optimizer, device):
    """The loss that is divided once more is the one that is reported, too."""
    model.train()
    total = 0.0
    for inputs, targets in train_loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets) / len(inputs)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(inputs)
    return total / len(train_loader.dataset)


@mutant("loss-scaled", expects="logits")
def averages_over_the_classes(model, train_loader, optimizer, device):
    """The cross-entropy with one-hot targets is averaged over samples and classes."""
    model.train()
    for x, y in train_loader:
        logits = model(x.to(device))
        wanted = F.one_hot(y.to(device), logits.shape[1]).to(logits)
        optimizer.zero_grad()
        (-wanted * logits.log_softmax(dim=1)).mean().backward()  # the likely line
        optimizer.step()


@mutant("sigmoid-before-bce-with-logits")
def squashes_the_logits_first(model, train_loader, optimizer, device):
    """One-hot targets and a binary cross-entropy with logits, which is given probabilities."""
    criterion = nn.BCEWithLogitsLoss()
    model.train()
    for x, y in train_loader:
        logits = model(x.to(device))
        optimizer.zero_grad()
        criterion(logits.sigmoid(), F.one_hot(y.to(device), logits.shape[1]).to(logits)).backward()  # the likely line
        optimizer.step()


@mutant("loss-differs")
def smooths_over_too_few_classes(model, train_loader, optimizer, device):
    """The mass of a label smoothing is divided by the classes less two, and given to the classes less one."""
    model.train()
    for x, y in train_loader:
        logits = model(x.to(device))
        wanted = torch.full_like(logits, 0.1 / (logits.shape[1] - 2)).scatter(1, y.to(device)[:, None], 0.9)
        optimizer.zero_grad()
        (-wanted * logits.log_softmax(dim=1)).sum(dim=1).mean().backward()
        optimizer.step()


@mutant("loss-wrong-target", expects="bce")
def spreads_the_wrong_labels(model, train_loader, loss_fn, optimizer, device):
    """The labels of the batch are one-hot after they were rolled by one sample."""
    model.train()
    for x, y in train_loader:
        logits = model(x.to(device))
        targets = F.one_hot(y.to(device).roll(1), logits.shape[1])
        optimizer.zero_grad()
        loss_fn(logits, targets.to(logits)).backward()
        optimizer.step()


@mutant("loss-scaled", expects="bce")
class SumsOverTheClasses:
    """The binary cross-entropy is summed over the classes, and averaged over the samples alone."""

    def __init__(self, net, optim, device):
        self.net, self.optim, self.device = net, optim, device
        self.criterion = nn.BCEWithLogitsLoss(reduction="none")

    def train_epoch(self, loader):
        self.net.train()
        for x, y in loader:
            logits = self.net(x.to(self.device))
            losses = self.criterion(logits, F.one_hot(y.to(self.device), logits.shape[1]).to(logits))
            self.optim.zero_grad()
            losses.sum(dim=1).mean().backward()  # the likely line
            self.optim.step()
