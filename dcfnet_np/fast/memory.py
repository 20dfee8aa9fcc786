"""The online filter in memory that is made once: an update of every frame makes no new arrays."""

import numpy as np

from ..filter import OnlineFilter


class FilterInPlace(OnlineFilter):
    """`OnlineFilter` on a CPU, the same bits.  A response is overwritten by the next one."""

    def update(self, template_f: np.ndarray) -> None:
        if self.means is None or template_f.shape != self.means[0].shape:
            super().update(template_f)  # the first one, or a wrong one
            self._template = np.empty_like(template_f)
            self._energy = np.empty((1, *self.label_f.shape), template_f.real.dtype)
            self._label_conj = self.label_f.conj()
            self._search = self._response = np.empty(0)
            return
        (a, b), beta, work = self.means, self.learning_rate, self._template
        np.conj(template_f, out=work)
        work *= template_f
        energy = work.real.sum(0, keepdims=True, out=self._energy)[0]
        energy += energy.dtype.type(self.lam)
        if self.rule == "ratio":
            np.multiply(template_f, self._label_conj, out=work)
            work *= beta
            energy *= beta
        else:
            np.multiply(template_f, beta, out=work)
            energy = self.label_f / energy
            energy *= beta
        a *= 1 - beta
        a += work
        b *= 1 - beta
        b += energy

    def response_f(self, search_f: np.ndarray) -> np.ndarray:
        a, b = self.learned()
        if self._search.shape != search_f.shape:
            self._search = np.empty_like(search_f)
            self._response = np.empty((len(search_f), *search_f.shape[2:]), search_f.dtype)
        conjugate = np.conj(a, out=self._template)
        products = np.multiply(conjugate, search_f, out=self._search)
        response_f = products.sum(1, out=self._response)
        if self.rule == "ratio":
            response_f /= b
        else:
            response_f *= b
        return response_f
