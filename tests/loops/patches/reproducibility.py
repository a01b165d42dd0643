"""Bugs of seeds and checkpoints."""

from tests.loops.patches import Mutant

RESUMED = "test_reproducibility.test_saved_and_resumed_is_uninterrupted"

CHECKPOINT_MUTANTS = [
    Mutant(
        "resume-incomplete", "            optimizer.load_state_dict(self.optimizer)\n", "", RESUMED, "not equal|history"
    ),
    Mutant("resume-incomplete", "            model.load_state_dict(self.model)\n", "", RESUMED, "not equal|history"),
    Mutant("resume-incomplete", '            torch.set_rng_state(self.rng["cpu"])\n', "", RESUMED, "not equal|history"),
    Mutant(
        "best-is-last",
        "copy.deepcopy((model.state_dict(), optimizer.state_dict()))",
        "(model.state_dict(), optimizer.state_dict())",
        "test_reproducibility.test_a_checkpoint_is_a_copy",
        "changed with the model",
    ),
]
