"""Bugs of the DataLoaders and of the transform: broken copies of ``mnist_loop/data/mnist.py``."""

from tests.loops.patches import Mutant

TRAIN_ORDER = "        shuffle=True,\n        generator=generator,\n"
TEST_GENERATOR = "        generator=torch.Generator(),  # else iterating would draw from the global generator\n"
TRAIN_LOADER = "        data.train,\n        batch_size=batch_size,\n"
TEST_LOADER = "        data.test,\n        batch_size=batch_size,\n"
FILE = "test_data_order.test_"

MUTANTS = [
    Mutant(
        "not-reproducible",
        TRAIN_ORDER,
        "        shuffle=True,\n",
        FILE + "the_same_seed_gives_the_same_order",
        "the same seed gave another order",
    ),
    Mutant(
        "seed-fixed",
        TRAIN_ORDER,
        "        shuffle=True,\n        generator=torch.Generator().manual_seed(0),\n",
        FILE + "without_a_generator_the_global_seed_decides",
        "another global seed gave the same order",
    ),
    Mutant(
        "test-draws",
        TEST_GENERATOR,
        "",
        FILE + "a_pass_over_the_test_set_draws_nothing",
        "drew from torch's global generator",
    ),
    Mutant(
        "test-shuffled",
        "        shuffle=False,\n",
        "        shuffle=True,\n",
        FILE + "a_pass_over_the_test_set_draws_nothing",
        "the test set is shuffled",
    ),
    Mutant(
        "batch-size-ignored",
        "    batch_size: int = 64,\n",
        "    batch_size: int = 63,\n",
        FILE + "a_batch_of_the_lesson_has_64_samples",
        "assert",
    ),
    Mutant(
        "no-batches",
        TRAIN_LOADER,
        TRAIN_LOADER + "        drop_last=True,\n",
        FILE + "each_sample_comes_once_an_epoch",
        "missing or come twice",
    ),
    Mutant(
        "batch-size-ignored",
        TEST_LOADER,
        TEST_LOADER.replace("=batch_size", "=7"),
        FILE + "batches_have_the_size_asked_for",
        "assert",
    ),
    Mutant(
        "normalised-differently",
        "transforms.Normalize((0.5,), (0.5,))",
        "transforms.Normalize((0.1307,), (0.3081,))",
        FILE + "pixels_lie_between_minus_one_and_one",
        "black and white are not",
    ),
    Mutant(
        "normalised-differently",
        ".div_(127.5)",
        ".div_(128)",
        FILE + "pixels_lie_between_minus_one_and_one",
        "differs from the transform",
    ),
    Mutant(
        "normalised-differently",
        "train=False, transform=normalisation())",
        "train=False, transform=transforms.ToTensor())",
        FILE + "train_and_test_images_enter_alike",
        "enter differently",
    ),
]
