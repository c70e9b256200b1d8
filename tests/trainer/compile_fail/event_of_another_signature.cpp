// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/trainer/callback_list.h"

struct Scored {
  int score;
};

class OnScored {
 public:
  virtual ~OnScored() = default;
  virtual void on_scored(torch_accelerated::Trainer&, const Scored&) {}
};

// Must not compile: the event is not what the listeners take.
void announce(torch_accelerated::CallbackList& callbacks, torch_accelerated::Trainer& trainer) {
  callbacks.notify(&OnScored::on_scored, trainer, "seven");
}
