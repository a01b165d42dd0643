"""Hugging Face's Trainer: its own schedule, accumulation, clipping and evaluation."""

import tempfile

from torch import nn
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

from frameworks_data import net, report, test_set, train_set


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, inputs, labels):
        logits = self.net(inputs)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def rows(data):
    return [{"inputs": inputs, "labels": label} for inputs, label in data]


set_seed(0)
model = Classifier()
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=2,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        eval_strategy="epoch",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        remove_unused_columns=False,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows(train_set()), eval_dataset=rows(test_set()))
    trainer.remove_callback(PrinterCallback)  # it prints how long the training took
    trainer.train()
report(model, [entry[key] for entry in trainer.state.log_history for key in ("loss", "eval_loss") if key in entry])
