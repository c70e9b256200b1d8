// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/trainer/callback_list.h"

class OnScored {
 public:
  virtual ~OnScored() = default;
  virtual void on_scored(int) {}
};

// Must not compile: a listener's virtual takes a subject and an event.
void announce(torch_accelerated::CallbackList& callbacks, torch_accelerated::Trainer& trainer) {
  callbacks.notify(&OnScored::on_scored, trainer, 7);
}
